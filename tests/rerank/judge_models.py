"""Tiny T5 and causal checkpoints with real tokenizers and random weights, and what asks them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from rerank.cost import Ledger
from rerank.questions import Answer, Question
from rerank.types import Document, Query

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
WORDS = ("Berlin", "has", "people", "museums;", "the", "wall", "fell", "1989,", "(3,520,031)", "inhabitants", "York.")
QUERY = Query("q", "how many people live in Berlin?")
DOCUMENTS = (
    Document("a", "Berlin has 3,520,031 registered inhabitants in an area of 891.82 square kilometers."),
    Document("b", "New York City is famous for its museums [3].", "New York"),
    Document("c", "The Berlin Wall fell in 1989."),
)


def tiny_t5(folder: Path, real: Path) -> Path:
    """A T5 whose head and embeddings are one table, as in T5 1.0, with the tokenizer of a real one."""
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 32_128}
    config = transformers.T5Config(**shape, tie_word_embeddings=True, decoder_start_token_id=0)
    return _saved(transformers.T5ForConditionalGeneration(config), folder, real)


def tiny_lm(folder: Path, real: Path, *, head: str = "AutoModelForCausalLM", **options: Any) -> Path:
    """A Llama with the tokenizer of a real causal model."""
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {"vocab_size": 49_152, "max_position_embeddings": 1024, "pad_token_id": 2, "eos_token_id": 2}
    config = transformers.LlamaConfig(**{**shape, **tokens, "num_key_value_heads": 2, **options})
    return _saved(getattr(transformers, head).from_config(config), folder, real)


def _saved(model: Any, folder: Path, real: Path) -> Path:
    from transformers.utils import logging

    transformers.set_seed(5)
    for parameter in model.parameters():  # large enough to tell prompts apart
        nn.init.normal_(parameter, std=0.15) if parameter.ndim > 1 else nn.init.normal_(parameter, 1.0, 0.1)
    logging.disable_progress_bar()
    model.eval().save_pretrained(folder)
    logging.enable_progress_bar()
    for name in TOKENIZERS:
        if (real / name).is_file():
            shutil.copy(real / name, folder / name)
    return folder


def answers(judge: Any, questions: Sequence[Question], ledger: Ledger | None = None) -> list[Answer]:
    """What a judge answers, in the order asked; an exception is raised."""
    found = dict(judge.answer(questions, Ledger() if ledger is None else ledger))
    given = [found[index] for index in range(len(questions))]
    for answer in given:
        if isinstance(answer, Exception):
            raise answer
    return given


def some_documents(count: int, *, seed: int = 1) -> list[Document]:
    """Texts of many lengths."""
    choice = random.Random(seed)
    texts = [" ".join(choice.choices(WORDS, k=choice.randint(1, 60))) for _ in range(count)]
    return [Document(str(index), text) for index, text in enumerate(texts)]


@torch.inference_mode()
def plain_t5(folder: Path, text: str, answer: str = "") -> torch.Tensor:
    """The logits of the next token by transformers' own forward."""
    tokenizer = _tokenizer(folder)
    model = _loaded(transformers.AutoModelForSeq2SeqLM, folder)
    begun = tokenizer(answer, add_special_tokens=False)["input_ids"] if answer else []
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    logits: torch.Tensor = model(input_ids=ids, decoder_input_ids=torch.tensor([[0, *begun]])).logits[0, -1]
    return logits


@torch.inference_mode()
def plain_lm(folder: Path, text: str) -> torch.Tensor:
    """The logits at every token of a text that has its special tokens written in it: [tokens, vocabulary]."""
    ids = _tokenizer(folder)(text, add_special_tokens=False, return_tensors="pt")
    logits: torch.Tensor = _loaded(transformers.AutoModelForCausalLM, folder)(ids["input_ids"]).logits[0]
    return logits


def chat_text(folder: Path, content: str, answer: str = "", system: str | None = None) -> str:
    """A question of a user's as the checkpoint's chat template writes it."""
    said = [{"role": "system", "content": system}] if system else []
    tokenizer = _tokenizer(folder)
    messages = [*said, {"role": "user", "content": content}]
    written: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return written + answer


@lru_cache(maxsize=4)
def _loaded(kind: Any, folder: Path) -> Any:
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return kind.from_pretrained(folder, dtype=torch.float32).eval()
    finally:
        logging.enable_progress_bar()


@lru_cache(maxsize=4)
def _tokenizer(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)
