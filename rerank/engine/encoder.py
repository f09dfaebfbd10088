"""Sequence classifiers, run without padding: one row of tokens, attention within each text, the head on first tokens.

How a model is run is chosen when it is loaded:

- `packed` (CPU, families of `families.py`): all texts of a batch in one row, attention text by text (`encoder_packed`).
- `varlen` (CUDA, the same families): the row through kernels that take all texts at once, in passes of fixed sizes that
  are recorded as CUDA graphs (`encoder_varlen`).
- `padded`: the family's backbone over a rectangle of texts of similar length, where the kernels cannot run.
- `single` (CPU) and `stock` (CUDA), any other model: its own forward, one text at a time or padded (`encoder_padded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rerank.engine import linear
from rerank.engine.encoder_layers import HEAD_ROWS
from rerank.engine.encoder_packed import PackedPass, Pooling, widths_of
from rerank.engine.encoder_padded import PaddedPass, StockPass, single
from rerank.engine.families import (
    FAMILIES,
    check_encoder,
    head_of,
    head_size,
    keep_head_in_float32,
    taken_apart,
    why_stock,
)
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError
from rerank.registry import unknown

__all__ = ["HEAD_ROWS", "Encoder", "Scored"]

Mode = Literal["packed", "varlen", "padded", "single", "stock"]


@dataclass(frozen=True)
class Scored:
    """What a forward pass gave: logits float32 [texts, labels], and what it computed."""

    logits: Tensor
    padded: int
    flops: int


class Encoder:
    """A sequence classifier that scores batches of pairs.

    Args:
        model: a transformers `…ForSequenceClassification`, in evaluation mode, on its device. It is taken apart: use
            the encoder from then on.
        mode: `packed`, `varlen`, `padded`, `single` or `stock`; chosen from family and device by default.

    Raises:
        CheckpointError: when the packed pass disagrees with the model's own; it is tried on three texts at load.
    """

    def __init__(self, model: Any, *, mode: Mode | None = None) -> None:
        check_encoder(model)
        if mode is not None and mode not in get_args(Mode):
            raise unknown("mode", mode, get_args(Mode))
        self.model = model
        self.device: torch.device = model.device
        self.why = why_stock(model)
        self.mode = mode or self._choose()
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
    def score(self, pairs: Sequence[Pair]) -> Scored:
        """Logits of a batch, float32 on the CPU, in the order given."""
        output = self.forward_pass.run(pairs)
        return Scored(output.values, output.padded, output.flops)

    def _choose(self) -> Mode:
        if self.device.type == "cpu":
            return "single" if self.why else "packed"
        return "stock" if self.why else "padded"

    def _make(self) -> PackedPass | PaddedPass | StockPass:
        if self.mode in ("single", "stock"):
            return StockPass(self.model, why=self.why, alone=self.mode == "single")
        pooling: Pooling = "mean" if FAMILIES[self.model.config.model_type].mean(self.model.config) else "first"
        expected = single(self.model, probes(self.model)).float()
        keep_head_in_float32(self.model)
        if self.mode == "padded":
            return PaddedPass(self.model, mean=pooling == "mean", head=head_of(self.model))
        made = self._packed(pooling)
        _check(self.model, made, expected)
        return made

    def _packed(self, pooling: Pooling) -> PackedPass:
        widths, fuse = widths_of(self.model), linear.available(self.model)
        backbone = taken_apart(self.model, varlen=False)
        return PackedPass(backbone, pooling, head_of(self.model), head_size(self.model), widths, fuse=fuse)


def probes(model: Any) -> list[Pair]:
    """Texts on which a packed pass is tried at load: two that are nearly nothing, one longer than local windows."""
    lengths = [5, 3, min(160, (getattr(model.config, "max_position_embeddings", None) or 512) - 4)]
    several = [np.arange(length, dtype=np.int32) * 7 % (model.config.vocab_size - 5) + 5 for length in lengths]
    return [Pair(ids, (np.arange(len(ids)) > len(ids) // 2).astype(np.int32), 0) for ids in several]


def _check(model: Any, made: PackedPass, expected: Tensor) -> None:
    got = made.run(probes(model)).values
    exact = model.dtype == torch.float32
    if not torch.allclose(got, expected.cpu(), rtol=1e-2, atol=1e-2 if exact else 1e-1):
        raise CheckpointError(
            f"packed attention changes the scores of this {type(model).__name__} "
            f"({got.tolist()} for {expected.tolist()}); please report it with the version of transformers"
        )
