"""Small checkpoints with random weights and a real tokenizer, in folders as transformers saves them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import transformers
from torch import nn

TEXT = "how many people live in berlin the city has three million and a wall of art new york is far away who won"
WORDS = TEXT.split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##ing", "?", "."]


def wordpiece(folder: Path) -> Any:
    """BERT's tokenizer over a few words."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    vocabulary = {word: index for index, word in enumerate(VOCABULARY)}  # a vocab_file would be ignored
    return transformers.BertTokenizerFast(vocab=vocabulary, model_max_length=64)


def enlarge(model: nn.Module) -> None:
    """Weights that tell texts apart."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)


def bert(folder: Path, *, labels: int = 1, types: int = 2, **options: Any) -> Path:
    """A BERT for sequence classification."""
    tokenizer = wordpiece(folder)
    transformers.set_seed(7)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=64, type_vocab_size=types, num_labels=labels, **options,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    enlarge(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def texts(count: int, seed: int, longest: int = 12) -> list[str]:
    """Of random words; the first is empty."""
    choice = random.Random(seed)
    return ["", *(" ".join(choice.choices(WORDS, k=choice.randint(1, longest))) for _ in range(count - 1))]
