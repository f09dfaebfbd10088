"""Sequence classifiers, run without padding: one row of tokens, attention within each text, the head on first tokens.

How a model is run is chosen when it is loaded:

- `packed` (CPU, families of `encoders.families`): all texts of a batch in one row, attention text by text
  (`encoders.packed`).
- `varlen` (CUDA, the same families): the row through kernels that take all texts at once, in passes of fixed sizes that
  are recorded as CUDA graphs (`encoders.varlen`).
- `padded`: the family's backbone over a rectangle of texts of similar length, where the kernels cannot run.
- `single` (CPU) and `stock` (CUDA), any other model: its own forward, one text at a time or padded (`encoders.padded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
from rerank.engine.encoders.families import FAMILIES, check_encoder, head_of, head_size, keep_head_in_float32
from rerank.engine.encoders.layers import HEAD_ROWS
from rerank.engine.encoders.modular import Readout, ReadPass
from rerank.engine.encoders.packed import Pooling
from rerank.engine.encoders.padded import PaddedPass, StatesPass, StockPass, single
from rerank.engine.streams import PART
from rerank.engine.tokens import Pair

__all__ = ["HEAD_ROWS", "Encoder", "Scored", "usual_budget"]


@dataclass(frozen=True)
class Scored:
    """What a forward pass gave: logits float32 [texts, labels], and what it computed."""

    logits: Tensor
    padded: int
    flops: int


def usual_budget(device: str) -> int:
    """Tokens of a batch that keep a device at work: a part for every thread of a CPU, at most as many as for a GPU."""
    return min(16_384, PART * torch.get_num_threads()) if device == "cpu" else 16_384


class Encoder:
    """A sequence classifier that scores batches of pairs.

    Args:
        model: a transformers `…ForSequenceClassification`, in evaluation mode, on its device. It is taken apart: use
            the encoder from then on.
        mode: `packed`, `varlen`, `padded`, `single` or `stock`; chosen from family and device by default.
        compile: torch.compile what lies between attentions, in the modes `packed` and `varlen`.
        deterministic: a score's bits do not depend on its batch. In float32 on the CPU that is always so; on CUDA all
            passes get one size then, that of `rows` tokens, or texts are run one by one.
        graphs: record passes as CUDA graphs.
        rows: the most tokens of a batch, for `deterministic`.
        readout: how scores are read off the states, when the model is a backbone without a head of its own.

    Raises:
        CheckpointError: when the packed pass disagrees with the model's own; it is tried on three texts at load.
        InputError: when options do not fit the model or the device.
    """

    def __init__(
        self,
        model: Any,
        *,
        mode: Mode | None = None,
        compile: bool = False,
        deterministic: bool = False,
        graphs: bool = True,
        rows: int = 16_384,
        readout: Readout | None = None,
    ) -> None:
        check_encoder(model)
        self.model, self.readout = model, readout
        self.device: torch.device = model.device
        self.options = Options(compile, deterministic, graphs, rows)
        self.mode, self.why = choose(model, mode, deterministic=deterministic)
        check_options(self.mode, self.options, model)
        with torch.inference_mode():
            self.forward_pass = self._make()

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return self.forward_pass.execution + (", compiled" if self.options.compile else "")

    @property
    def packs(self) -> bool:
        """True when a batch costs what its tokens cost, whatever their lengths."""
        return self.forward_pass.packs

    @torch.inference_mode()
    def score(self, pairs: Sequence[Pair]) -> Scored:
        """Logits of a batch, float32 on the CPU, in the order given."""
        output = self.forward_pass.run(pairs)
        return Scored(output.values, output.padded, output.flops)

    def _make(self) -> Pass | ReadPass:
        if self.readout is not None:
            return self._with(self.readout)
        if self.mode in ("single", "stock"):
            return StockPass(self.model, why=self.why, alone=self.mode == "single")
        pooling: Pooling = "mean" if FAMILIES[self.model.config.model_type].mean(self.model.config) else "first"
        expected = single(self.model, probes(self.model)).float()
        keep_head_in_float32(self.model)
        head = head_of(self.model)
        if self.mode == "padded":
            return PaddedPass(self.model, mean=pooling == "mean", head=head, why=self.why)
        made = without_padding(self.model, self.mode, pooling, self.options, head, head_size(self.model))
        check_agreement(self.model, made.run(probes(self.model)).values, expected)
        return made

    def _with(self, readout: Readout) -> Pass | ReadPass:
        """A backbone with a head from elsewhere."""
        alone = ReadPass(StatesPass(self.model, readout.pooling, why=self.why, alone=True), readout)
        if self.mode == "single":
            return alone
        if self.mode == "stock":
            return ReadPass(StatesPass(self.model, readout.pooling, why=self.why, alone=False), readout)
        several = probes(self.model)
        expected = alone.run(several).values
        made = without_padding(self.model, self.mode, readout.pooling, self.options, readout.head, readout.size)
        check_agreement(self.model, made.run(several).values, expected)
        return made
