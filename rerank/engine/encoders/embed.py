"""Backbones without a classifier: the hidden states of texts, or one vector each, run as classifiers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from rerank.engine.encoders.choice import (
    Mode,
    Options,
    Pass,
    check_agreement,
    check_options,
    choose,
    probes,
    without_padding,
)
from rerank.engine.encoders.packed import Head, Pooling
from rerank.engine.encoders.padded import StatesPass
from rerank.engine.texts.token_store import Ids
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError, InputError
from rerank.registry import unknown

__all__ = ["Embedded", "Embedder"]

BIASED = ("mpnet", "deberta-v2")
"""Families whose attention adds something to its scores, which looking at a part of a text leaves to their own code."""


@dataclass(frozen=True)
class Embedded:
    """What a forward pass gave.

    Args:
        states: float32 on the CPU, in the order of the texts: [texts, hidden], or every token's, [tokens, hidden]; or
            what a head makes of them.
        lengths: tokens of each text.
        padded: token rows that were computed and belong to no text.
        flops: floating-point operations.
    """

    states: Tensor
    lengths: tuple[int, ...]
    padded: int
    flops: int

    def by_text(self) -> tuple[Tensor, ...]:
        """The states of each text's tokens, [tokens, hidden] each."""
        return torch.split(self.states, list(self.lengths))


class Embedder:
    """An encoder without a classification head.

    Args:
        model: what `AutoModel` gives, in evaluation mode, on its device. It is taken apart: use the embedder from then
            on.
        pooling: "none" gives every token's state, "first" that of each text's first token (the last layer is then
            computed for first tokens alone), "mean" the mean of all.
        head: applied to what was pooled, float32 [rows, hidden] -> [rows, …], where the model is; row by row.
        head_size: weights of the head, for the bill.
        partly_seen: whether texts will come whose last tokens are not looked at.
        mode: `packed`, `varlen`, `single` or `stock`; chosen from family and device by default.
        deterministic: see `rerank.engine.encoder.Encoder`.
        rows: the most tokens of a batch, for `deterministic`.

    Raises:
        CheckpointError: when the packed pass disagrees with the model's own; it is tried at load.
        InputError: when options do not fit the model or the device.
    """

    def __init__(
        self,
        model: Any,
        *,
        pooling: Pooling = "none",
        head: Head | None = None,
        head_size: int = 0,
        partly_seen: bool = False,
        mode: Mode | None = None,
        deterministic: bool = False,
        rows: int = 16_384,
    ) -> None:
        if model.config.is_encoder_decoder:
            raise CheckpointError(f"{type(model).__name__} has a decoder; give its encoder alone")
        if pooling not in get_args(Pooling):
            raise unknown("pooling", pooling, get_args(Pooling))
        self.model, self.pooling = model, pooling
        self.device: torch.device = model.device
        self.options = Options(deterministic=deterministic, rows=rows)
        self.head, self.head_size = head, head_size
        self.mode, self.why = choose(model, mode, deterministic=deterministic)
        if partly_seen and self.mode in ("packed", "varlen") and model.config.model_type in BIASED:
            self.mode = "single" if self.mode == "packed" or deterministic else "stock"
            self.why = f"tokens of a {model.config.model_type} that are not looked at"
        check_options(self.mode, self.options, model)
        with torch.inference_mode():
            self.forward_pass = self._make()

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return self.forward_pass.execution

    @property
    def packs(self) -> bool:
        """True when a batch costs what its tokens cost, whatever their lengths."""
        return self.forward_pass.packs

    def run(self, texts: Sequence[Pair]) -> Embedded:
        """The states of a batch of texts, of which some may be looked at in part.

        Raises:
            InputError: when one is, and texts are pooled by first tokens.
        """
        if self.pooling == "first" and any(text.seen for text in texts):
            raise InputError("a text that is looked at in part has no pooled first token; use pooling='none'")
        with torch.inference_mode():
            output = self.forward_pass.run(texts)
        return Embedded(output.values, tuple(len(text.ids) for text in texts), output.padded, output.flops)

    def embed(self, texts: Sequence[Ids], types: Sequence[Ids] | None = None) -> Embedded:
        """The states of a batch.

        Args:
            texts: token ids of each, special tokens included.
            types: token types of each, where a text is a pair; all 0 by default.
        """
        kinds = [np.zeros_like(ids) for ids in texts] if types is None else types
        return self.run([Pair(ids, kind, 0) for ids, kind in zip(texts, kinds, strict=True)])

    def _make(self) -> Pass:
        alone = self.mode == "single"
        own = StatesPass(self.model, self.pooling, self.head, self.head_size, why=self.why, alone=alone)
        if self.mode in ("single", "stock"):
            return own
        several = probes(self.model)
        expected = torch.cat([own.run([probe]).values for probe in several])
        made = without_padding(self.model, self.mode, self.pooling, self.options, self.head, self.head_size)
        check_agreement(self.model, made.run(several).values, expected)
        return made
