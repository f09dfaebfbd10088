"""A classifier in two halves: lower layers over query and document apart, whose states are kept, upper ones over both.

What it computes is the model with a mask in its lower layers, under which query and document do not see each other;
places and token types are those of the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from rerank.engine import linear
from rerank.engine.encoder import Scored
from rerank.engine.encoders.choice import check_agreement, probes
from rerank.engine.encoders.families import (
    FAMILIES,
    check_encoder,
    head_of,
    head_size,
    keep_head_in_float32,
    taken_apart,
    why_stock,
)
from rerank.engine.encoders.layers import Backbone
from rerank.engine.encoders.packed import Head, PackedPass, Pooling, widths_of
from rerank.engine.encoders.padded import single
from rerank.engine.encoders.varlen import VarlenPass
from rerank.engine.tokens import Pair
from rerank.errors import InputError

__all__ = ["SplitEncoder"]


class SplitEncoder:
    """Both halves of a classifier of a family in `FAMILIES`.

    Args:
        model: a transformers `…ForSequenceClassification`, in evaluation mode, on its device. It is taken apart.
        split: how many layers read query and document apart, from 0 to one less than there are.

    Raises:
        InputError: when the model cannot be taken apart, or has fewer layers.
        CheckpointError: when the halves together disagree with the model's own forward; it is tried at load.
    """

    def __init__(self, model: Any, split: int) -> None:
        check_encoder(model)
        if why := why_stock(model):
            raise InputError(f"{type(model).__name__} cannot be split: {why}")
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        with torch.inference_mode():
            pooling: Pooling = "mean" if FAMILIES[model.config.model_type].mean(model.config) else "first"
            expected = single(model, probes(model)).float()
            keep_head_in_float32(model)
            widths, fuse = widths_of(model), linear.available(model)
            whole = taken_apart(model, varlen=self.device.type == "cuda")
            if not 0 <= split < len(whole.layers):
                raise InputError(f"split={split}, but one of the model's {len(whole.layers)} layers must see all")
            below, above = self._halves(whole, split)
            self.lower = self._pass(below, "none", None, 0, widths, fuse)
            self.upper = self._pass(above, pooling, head_of(model), head_size(model), widths, fuse)
            check_agreement(model, self._whole(probes(model)), expected)

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return self.upper.execution

    @torch.inference_mode()
    def states(self, texts: Sequence[Pair]) -> tuple[list[Tensor], int, int]:
        """Each text's states after the lower layers, [tokens, hidden]; filler rows and operations that it took."""
        output = self.lower.run(texts)
        return list(torch.split(output.values, [len(text.ids) for text in texts])), output.padded, output.flops

    @torch.inference_mode()
    def score(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Scored:
        """Logits of (query's states, document's states), in the order given."""
        distinct = {id(states): states for pair in pairs for states in pair}
        starts = dict(zip(distinct, _starts(list(distinct.values())), strict=True))
        self._table.states = torch.cat(list(distinct.values())).to(self.device, self.dtype)
        output = self.upper.run([_rows(starts, pair) for pair in pairs])
        return Scored(output.values, output.padded, output.flops)

    def _halves(self, whole: Backbone, split: int) -> tuple[Backbone, Backbone]:
        self._table = StateTable()
        below = Backbone(
            whole.embeddings,
            whole.layers[:split],
            first_place=whole.first_place,
            types=whole.types,
            project=whole.project,
        )
        return below, Backbone(self._table, whole.layers[split:], first_place=None, norm=whole.norm)

    def _pass(
        self, backbone: Backbone, pooling: Pooling, head: Head | None, size: int, widths: frozenset[int], fuse: bool
    ) -> PackedPass | VarlenPass:
        if self.device.type == "cuda":
            return VarlenPass(backbone, pooling, head, size, device=self.device, graphs=False)
        return PackedPass(backbone, pooling, head, size, widths, fuse=fuse)

    def _whole(self, texts: Sequence[Pair]) -> Tensor:
        """Whole texts through both halves, as the model itself reads them."""
        nothing = torch.empty(0, self.lower.run(texts[:1]).values.shape[1])
        return torch.cat([self.score([(self.states([text])[0][0], nothing)]).logits for text in texts])


class StateTable(nn.Module):
    """What the upper layers read in the place of embeddings: states, by the number of their row."""

    def __init__(self) -> None:
        super().__init__()
        self.states = torch.empty(0)

    def forward(self, input_ids: Tensor) -> Tensor:
        """[1, rows] -> [1, rows, hidden]."""
        return embedding(input_ids, self.states)


def _starts(parts: Sequence[Tensor]) -> list[int]:
    """Where each begins when all stand one below the other."""
    ends = np.cumsum([0, *(len(part) for part in parts)])
    return [int(end) for end in ends[:-1]]


def _rows(starts: dict[int, int], pair: tuple[Tensor, Tensor]) -> Pair:
    """A pair as the numbers of its states."""
    ids = np.concatenate([np.arange(starts[id(part)], starts[id(part)] + len(part), dtype=np.int32) for part in pair])
    return Pair(ids, np.zeros_like(ids))
