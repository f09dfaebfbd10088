"""Causal language models with a score head: RankLLaMA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rerank import checkpoints
from rerank.engine.decoders.families import context_limit
from rerank.judges.separate import checked_tokens
from training.examples import Example
from training.students.causal import last_tokens, load_model, row_states, try_packed
from training.students.packed import rows_of
from training.students.prompts import PromptReader
from training.students.student import Lora, Student, with_lora

__all__ = ["ScoreHead"]


class ScoreHead(Student):
    """A causal model whose new head reads one score off a prompt's last token (https://arxiv.org/abs/2310.08319).

    Args:
        name: a causal language model, or one that has the head already: name, hub id or folder.
        prompt: of the toolkit, that asks to grade; its end is what the head reads.
        max_tokens: of the prompt; documents are cut at their ends. By default 512, or what the model reads.
        packed: without padding; None: where that gives the same.
        lora: train adapters and the head alone.
        dtype: of the weights.

    Raises:
        CheckpointError: when it is no causal model.
        InputError: when the model reads fewer tokens.
    """

    def __init__(
        self,
        name: str | Path,
        *,
        prompt: str = "rankllama",
        max_tokens: int | None = None,
        packed: bool | None = None,
        lora: Lora | None = None,
        dtype: str = "float32",
    ) -> None:
        folder = checkpoints.fetch(name)
        model, tokenizer = load_model(folder, "AutoModelForSequenceClassification", dtype, lora, num_labels=1)
        super().__init__(with_lora(model, lora, heads=("score",)), tokenizer)
        most = checked_tokens("max_tokens", max_tokens, 512, context_limit(model.config), folder)
        self.reader = PromptReader(folder, tokenizer, prompt, max_tokens=most)
        self.why_padded = try_packed(model, packed)

    @property
    def execution(self) -> str:
        """How it runs, for the card."""
        return f"padded ({self.why_padded})" if self.why_padded else "packed"

    def asked_as(self) -> dict[str, Any]:
        """How it is asked when it ranks."""
        return {"judge": "score-head", "prompt": self.reader.prompt.name, "max_tokens": self.reader.max_tokens}

    def read(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A prompt a document."""
        read = [self.reader.read(example.query, [text]) for example in examples for text in example.documents]
        cut = torch.tensor(sum(len(prompt.cut or ()) for prompt in read))
        return {**rows_of([prompt.ids for prompt in read]).as_inputs(), "cut": cut}

    def forward(self, *, cut: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """float [texts]."""
        model = self.core
        states = row_states(model, **inputs, packed=not self.why_padded)
        scores: Tensor = model.score(states[last_tokens(inputs["lengths"], inputs["slots"])])[:, 0]
        return scores
