"""The CPU's pass: one row of tokens, attention text by text, and the same bits whatever the batch in float32.

A score must not depend on what else is in its batch. Every pass has at least `fewest_rows` rows (below that the
blocking of matrix products depends on their number; see `linear.py`), attention sees texts one by one, what is computed
once a text always sees `HEAD_ROWS` rows, and filler rows make every thread's share of an activation end with a whole
vector (`settled_rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rerank.engine import linear
from rerank.engine.encoders.flops import ForwardCost
from rerank.engine.encoders.layers import HEAD_ROWS, Backbone, Layer, in_fixed_rows
from rerank.engine.encoders.native import attend_natively
from rerank.engine.encoders.row import Row, row_of
from rerank.engine.packing import settled_rows
from rerank.engine.streams import parts_of, side_by_side
from rerank.engine.tokens import Pair

__all__ = ["Head", "Output", "PackedPass", "Pooling", "inverse", "rows_for", "widths_of"]

STEP = 32
"""Rows are a multiple of it: oneDNN keeps code and memory, megabytes, for every number of rows that it has seen."""

Head = Callable[[Tensor], Tensor]
"""Pooled states, float32 [rows, hidden] -> what is wanted of them, float32 [rows, …]."""

Pooling = Literal["first", "mean", "none"]
"""What a pass gives of each text: its first token's state, the mean of all, or all of them."""


@dataclass(frozen=True)
class Output:
    """What a pass gave.

    Args:
        values: float32 on the CPU, in the order of the texts: [texts, …], or [tokens, hidden] without pooling.
        padded: token rows that were computed and belong to no text.
        flops: floating-point operations.
    """

    values: Tensor
    padded: int
    flops: int


class PackedPass:
    """Texts of a batch in one row, attention text by text.

    Args:
        backbone: taken apart for attention text by text; changed: its last layer is cut when only first tokens are
            pooled, and its linear layers are fused where that can be done.
        pooling: what is read of each text.
        head: applied to what was pooled (without pooling, to every token's state), or None.
        head_size: weights of the head, for the bill.
        widths: of everything an activation or a rotary embedding may be computed over.
        fuse: whether linear layers may be fused.
    """

    packs = True

    def __init__(
        self,
        backbone: Backbone,
        pooling: Pooling,
        head: Head | None,
        head_size: int,
        widths: frozenset[int],
        *,
        fuse: bool,
    ) -> None:
        self.backbone, self.pooling, self.head, self.widths = backbone, pooling, head, widths
        self.first = pooling == "first" and isinstance(backbone.layers[-1], Layer)
        if self.first:
            backbone.layers[-1].cut()  # type: ignore[operator]
        self.cost = ForwardCost.of_backbone(backbone, head_size, first=self.first)
        self.fused = fuse
        if fuse:
            linear.fuse(backbone)
        self.native = attend_natively(backbone)
        self.divides = self.fused and self.native  # products and attention that respect a thread's number of threads
        keep_freed_memory()

    @property
    def fewest_rows(self) -> int:
        """Token rows, filler included, from which bits do not depend on their number."""
        return linear.FEWEST_ROWS if self.fused else linear.SAFE_ROWS

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return f"packed{', fused linear layers' if self.fused else ''}{', native attention' if self.native else ''}"

    def run(self, texts: Sequence[Pair]) -> Output:
        """Compute a batch, parts of it side by side where every thread finds enough to do."""
        threads = torch.get_num_threads() if self.divides else 1
        parts = parts_of([len(text.ids) for text in texts], threads)
        if len(parts) < 2:
            return self._run(texts)
        outputs = side_by_side(self._run, [texts[part] for part in parts], threads)
        return Output(
            torch.cat([output.values for output in outputs]),
            sum(output.padded for output in outputs),
            sum(output.flops for output in outputs),
        )

    def _run(self, texts: Sequence[Pair]) -> Output:
        lengths = [len(text.ids) for text in texts]
        real = sum(lengths)
        rows = rows_for(real, self.fewest_rows, self.widths)
        order = sorted(range(len(texts)), key=lengths.__getitem__)  # equal lengths side by side share a call
        values = self._values(row_of([texts[index] for index in order], rows), order)
        pooled = real if self.pooling == "none" else len(texts)
        heads = -(-pooled // HEAD_ROWS) * HEAD_ROWS
        return Output(values.float(), rows - real, self.cost.flops(rows, lengths, heads))

    def _values(self, row: Row, order: Sequence[int]) -> Tensor:
        """In the order given."""
        if self.first:
            return self._finished(self.backbone.first(row), order)
        hidden = self.backbone(row)
        if self.pooling == "first":
            return self._finished(hidden[row.first], order)
        hidden = hidden[: int(row.ends[-1])]
        if self.pooling == "none" and self.head is not None:
            hidden = in_fixed_rows(self.head, hidden.float())
        texts = torch.split(hidden, row.ends.diff().tolist())
        if self.pooling == "mean":
            return self._finished(torch.stack([text.float().mean(0) for text in texts]), order)
        places = inverse(order).tolist()
        return torch.cat([texts[place] for place in places])

    def _finished(self, pooled: Tensor, order: Sequence[int]) -> Tensor:
        values = pooled.float() if self.head is None else in_fixed_rows(self.head, pooled.float())
        return values[inverse(order)]


def rows_for(real: int, fewest: int, widths: frozenset[int]) -> int:
    """Token rows of a pass over so many tokens, filler included, for which bits do not depend on their number."""
    steps = -(-max(real, fewest) // STEP) * STEP
    return settled_rows(steps, widths, torch.get_num_threads())


def inverse(order: Sequence[int]) -> Tensor:
    """Where each text went."""
    return torch.tensor(order).argsort()


def keep_freed_memory() -> None:
    """Let the process keep what a pass frees, for the next pass.

    glibc gives the free end of the heap back when it is more than twice as large as the largest block that was freed
    so far, and takes it again page by page: a small model's pass took a tenth of its time for that. A block that
    nobody touches costs nothing; 32 MiB is the largest that counts.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def widths_of(model: Any) -> frozenset[int]:
    """Of everything an activation or a rotary embedding may be computed over."""
    linears = [module for module in model.base_model.modules() if isinstance(module, nn.Linear)]
    config = model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return frozenset({head, *(module.out_features for module in linears)})
