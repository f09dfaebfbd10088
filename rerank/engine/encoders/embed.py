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
from rerank.engine.encoders.packed import Pooling
from rerank.engine.encoders.padded import StatesPass
from rerank.engine.texts.token_store import Ids
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError
from rerank.registry import unknown

__all__ = ["Embedded", "Embedder"]


@dataclass(frozen=True)
class Embedded:
    """What a forward pass gave.

    Args:
        states: float32 on the CPU, in the order of the texts: [texts, hidden], or every token's, [tokens, hidden].
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
        self.mode, self.why = choose(model, mode, deterministic=deterministic)
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

    @torch.inference_mode()
    def embed(self, texts: Sequence[Ids], types: Sequence[Ids] | None = None) -> Embedded:
        """The states of a batch.

        Args:
            texts: token ids of each, special tokens included.
            types: token types of each, where a text is a pair; all 0 by default.
        """
        kinds = [np.zeros_like(ids) for ids in texts] if types is None else types
        pairs = [Pair(ids, kind, 0) for ids, kind in zip(texts, kinds, strict=True)]
        output = self.forward_pass.run(pairs)
        return Embedded(output.values, tuple(len(ids) for ids in texts), output.padded, output.flops)

    def _make(self) -> Pass:
        own = StatesPass(self.model, self.pooling, why=self.why, alone=self.mode == "single")
        if self.mode in ("single", "stock"):
            return own
        several = probes(self.model)
        expected = torch.cat([own.run([probe]).values for probe in several])
        made = without_padding(self.model, self.mode, self.pooling, self.options)
        check_agreement(self.model, made.run(several).values, expected)
        return made
