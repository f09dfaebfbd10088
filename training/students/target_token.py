"""monoT5, RankT5, yes-or-no language models: the logits of one or two words are the score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.nn.utils.rnn import pad_sequence

from rerank import checkpoints
from rerank.engine.decoders.families import context_limit
from rerank.errors import InputError
from rerank.judges.separate import checked_tokens
from rerank.judges.target_words import target_ids
from training.examples import Example
from training.students.causal import last_tokens, load_model, row_states, try_packed
from training.students.packed import rows_of
from training.students.prompts import PromptReader
from training.students.student import Lora, Student, with_lora

__all__ = ["TargetToken"]

MODES = {"encoder-decoder": "AutoModelForSeq2SeqLM", "causal": "AutoModelForCausalLM"}


class TargetToken(Student):
    """A T5 or a causal language model that is asked by a prompt about one document.

    The score is the raw logit of a prompt's one target (RankT5, https://arxiv.org/abs/2210.10634), or the first
    target's less the second's, whose sigmoid is P(first) over both: `bce` is then monoT5's cross-entropy over "true"
    and "false" (https://arxiv.org/abs/2003.06713).

    `mse-logits` learns the logits of both words as they are (InRanker, https://arxiv.org/abs/2401.06910).

    Args:
        name: a checkpoint's name, hub id or folder.
        prompt: of the toolkit, that asks to grade: "rankt5", "yes-no" …; "monot5" by default.
        max_tokens: of the prompt; documents are cut at their ends. By default 512, or what the model reads.
        packed: causal models without padding; None: where they give the same. A T5 is padded.
        lora: train adapters alone.
        dtype: of the weights.

    Raises:
        CheckpointError: when it is no T5 and no causal model.
        InputError: when a target is not one token, or the model reads fewer tokens.
    """

    wants: ClassVar[str] = "lists or logits"
    asks: ClassVar[str] = "grade"
    usual_prompt: ClassVar[str] = "monot5"

    def __init__(
        self,
        name: str | Path,
        *,
        prompt: str | None = None,
        max_tokens: int | None = None,
        packed: bool | None = None,
        lora: Lora | None = None,
        dtype: str = "float32",
    ) -> None:
        folder = checkpoints.fetch(name)
        self.kind = checkpoints.kind(folder)
        if self.kind not in MODES:
            raise InputError(f"{folder.name} is a {self.kind}, which has no words to be asked for; use a T5 or an LLM")
        model, tokenizer = load_model(folder, MODES[self.kind], dtype, lora)
        super().__init__(with_lora(model, lora), tokenizer)
        most = checked_tokens("max_tokens", max_tokens, 512, context_limit(model.config), folder)
        self.reader = PromptReader(folder, tokenizer, prompt or self.usual_prompt, max_tokens=most)
        asked = self.reader.prompt
        grades = self.asks == "grade"
        if asked.asks != self.asks or len(asked.targets) not in ((1, 2) if grades else (2,)):
            words = "one target word or two" if grades else "two target words"
            raise InputError(f"prompt {asked.name!r} must ask to {self.asks} by {words}, to be trained by them")
        behind = asked.answer if self.seq2seq else self.reader.tail(1 if grades else 2)
        self.targets = target_ids(tokenizer, asked.targets, behind=behind)
        self.prefix = _prefix(model, tokenizer, asked.answer) if self.seq2seq else []
        self.why_padded = "a T5" if self.seq2seq else try_packed(model, packed)

    @property
    def seq2seq(self) -> bool:
        """Whether it is a T5."""
        return self.kind == "encoder-decoder"

    @property
    def execution(self) -> str:
        """How it runs, for the card."""
        return f"padded ({self.why_padded})" if self.why_padded else "packed"

    def asked_as(self) -> dict[str, Any]:
        """How it is asked when it ranks."""
        return {
            "judge": "target-token",
            "prompt": self.reader.prompt.name,
            "max_tokens": self.reader.max_tokens,
        }

    def read(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A prompt a document."""
        return self.prompts([(example.query, [text]) for example in examples for text in example.documents])

    def prompts(self, asked: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Tensor]:
        """What the model reads, of queries and the documents that each prompt shows."""
        read = [self.reader.read(query, documents) for query, documents in asked]
        cut = torch.tensor(sum(len(prompt.cut or ()) for prompt in read))
        if not self.seq2seq:
            return {**rows_of([prompt.ids for prompt in read]).as_inputs(), "cut": cut}
        texts = [torch.tensor(prompt.ids) for prompt in read]
        mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
        padded = pad_sequence(texts, batch_first=True, padding_value=self.core.config.pad_token_id)
        return {"input_ids": padded, "attention_mask": mask, "cut": cut}

    def forward(self, *, cut: Tensor | None = None, **inputs: Tensor) -> Any:
        """The logits of its words: float [texts, words]."""
        model = self.core
        if self.seq2seq:
            start = torch.tensor([self.prefix], device=inputs["input_ids"].device).expand(len(inputs["input_ids"]), -1)
            logits = model(**inputs, decoder_input_ids=start, use_cache=False).logits[:, -1, list(self.targets)]
        else:
            states = row_states(model, **inputs, packed=not self.why_padded)
            logits = head_rows(model, states[last_tokens(inputs["lengths"], inputs["slots"])], self.targets)
        return logits

    def scores_of(self, outputs: Any) -> Tensor:
        """The logit of its one word, or of the first less the second's: float [texts]."""
        score: Tensor = outputs[:, 0] if len(self.targets) == 1 else outputs[:, 0] - outputs[:, 1]
        return score


def head_rows(model: Any, states: Tensor, tokens: Sequence[int]) -> Tensor:
    """The logits of a few tokens: [rows, dim] -> float32 [rows, tokens]; no other row of the head is read."""
    head = model.get_output_embeddings()
    chosen = list(tokens)
    bias = None if head.bias is None else head.bias[chosen].float()
    return linear(states.float(), head.weight[chosen].float(), bias)


def _prefix(model: Any, tokenizer: Any, answer: str) -> list[int]:
    begun = tokenizer(answer, add_special_tokens=False)["input_ids"] if answer else []
    return [model.config.decoder_start_token_id, *begun]
