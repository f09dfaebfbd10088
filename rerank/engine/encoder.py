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
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerank.engine.encoder_choice import Mode, Options, Pass, choose, without_padding
from rerank.engine.encoder_layers import HEAD_ROWS
from rerank.engine.encoder_packed import Pooling
from rerank.engine.encoder_padded import PaddedPass, StockPass, single
from rerank.engine.families import FAMILIES, check_encoder, head_of, head_size, keep_head_in_float32
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError, InputError

__all__ = ["HEAD_ROWS", "Encoder", "Scored"]


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
        compile: torch.compile what lies between attentions, in the modes `packed` and `varlen`.
        deterministic: a score's bits do not depend on its batch. In float32 on the CPU that is always so; on CUDA all
            passes get one size then, that of `rows` tokens, or texts are run one by one.
        graphs: record passes as CUDA graphs.
        rows: the most tokens of a batch, for `deterministic`.

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
    ) -> None:
        check_encoder(model)
        self.model = model
        self.device: torch.device = model.device
        self.options = Options(compile, deterministic, graphs, rows)
        self.mode, self.why = choose(model, mode, deterministic=deterministic)
        _check_options(self.mode, self.options, model)
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

    def _make(self) -> Pass:
        if self.mode in ("single", "stock"):
            return StockPass(self.model, why=self.why, alone=self.mode == "single")
        pooling: Pooling = "mean" if FAMILIES[self.model.config.model_type].mean(self.model.config) else "first"
        expected = single(self.model, probes(self.model)).float()
        keep_head_in_float32(self.model)
        head = head_of(self.model)
        if self.mode == "padded":
            return PaddedPass(self.model, mean=pooling == "mean", head=head, why=self.why)
        made = without_padding(self.model, self.mode, pooling, self.options, head, head_size(self.model))
        _check_scores(self.model, made.run(probes(self.model)).values, expected)
        return made


def probes(model: Any) -> list[Pair]:
    """Texts on which a packed pass is tried at load: two that are nearly nothing, one longer than local windows."""
    lengths = [5, 3, min(160, (getattr(model.config, "max_position_embeddings", None) or 512) - 4)]
    several = [np.arange(length, dtype=np.int32) * 7 % (model.config.vocab_size - 5) + 5 for length in lengths]
    return [Pair(ids, (np.arange(len(ids)) > len(ids) // 2).astype(np.int32), 0) for ids in several]


def _check_scores(model: Any, got: Tensor, expected: Tensor) -> None:
    exact = model.dtype == torch.float32
    if not torch.allclose(got, expected.cpu(), rtol=1e-2 if exact else 5e-2, atol=1e-2 if exact else 1e-1):
        raise CheckpointError(
            f"packed attention changes the scores of this {type(model).__name__} "
            f"({got.tolist()} for {expected.tolist()}); please report it with the version of transformers"
        )


def _check_options(mode: Mode, options: Options, model: Any) -> None:
    if options.compile and mode not in ("packed", "varlen"):
        raise InputError(f"compile=True has no effect on a model that is run {mode}; leave it out")
    exact = model.device.type == "cpu" and model.dtype == torch.float32
    if options.deterministic and model.device.type == "cpu" and not exact:
        raise InputError(f"deterministic=True needs float32 on the CPU, but the model is {model.dtype}")
    if options.deterministic and mode in ("padded", "stock"):
        raise InputError(
            f"deterministic=True, but in mode={mode!r} a text's padding depends on its batch; say 'single'"
        )
    if options.deterministic and options.compile:
        raise InputError("compile=True may change the last bits of a score with its batch; not with deterministic=True")
