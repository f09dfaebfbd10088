"""The GPU's pass: one row of tokens, all texts in one kernel, in a few sizes that can be recorded as CUDA graphs.

Tokens, texts and the longest text are rounded up to sizes that come back: filler rows belong to no text, texts that are
missing are empty. Everything a pass reads goes to the device in one transfer, and its scores come back in one.

With `fixed` sizes every product has the same shape whatever the batch, so that cuBLAS chooses the same kernel for it:
what becomes of a text's rows does then not depend on their neighbours, as long as that kernel computes every row alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rerank.engine.encoders.flops import ForwardCost
from rerank.engine.encoders.graphs import Graphs
from rerank.engine.encoders.layers import Backbone, Layer
from rerank.engine.encoders.packed import Head, Output, Pooling
from rerank.engine.encoders.row import Row, fill, runs_of, seen_of
from rerank.engine.tokens import Pair

__all__ = ["Sizes", "VarlenPass", "sizes_of"]

FEWEST_ROWS = 256
MOST_RECORDED = 65_536
"""Rows up to which passes are recorded: larger ones compute for longer than they take to launch."""


@dataclass(frozen=True)
class Sizes:
    """Of a pass: token rows, texts, and tokens of the longest text that there can be in it."""

    rows: int
    texts: int
    longest: int

    @property
    def numbers(self) -> int:
        """Of the inputs: ids, types and places of tokens, and where texts start and end."""
        return 3 * self.rows + self.texts + 1


def sizes_of(lengths: Sequence[int]) -> Sizes:
    """The smallest that hold texts of these lengths; at least one row belongs to no text."""
    rows = rounded_rows(sum(lengths) + 1)
    texts = next(count for count in (rows // 64, rows // 16, rows // 4, rows) if count >= len(lengths))
    return Sizes(rows, texts, _power(max(lengths), least=64))


def rounded_rows(rows: int) -> int:
    """Up to the next of eight sizes between two powers of two: at most an eighth is filler."""
    if rows <= FEWEST_ROWS:
        return FEWEST_ROWS
    step = _power(rows, least=1) // 16
    return -(-rows // step) * step


class VarlenPass:
    """Texts of a batch in one row, attention through kernels that take all texts at once.

    Args:
        backbone: taken apart for one kernel over all texts.
        pooling: what is read of each text.
        head: applied to what was pooled (without pooling, to every token's state), or None.
        head_size: weights of the head, for the bill.
        device: of the backbone.
        graphs: whether passes are recorded on CUDA.
        fixed: the sizes of all passes; a longer text alone gets a pass of its own size. None: the smallest that fit.
    """

    packs = True

    def __init__(
        self,
        backbone: Backbone,
        pooling: Pooling,
        head: Head | None,
        head_size: int,
        *,
        device: torch.device,
        graphs: bool = True,
        fixed: Sizes | None = None,
    ) -> None:
        self.backbone, self.pooling, self.head = backbone, pooling, head
        self.device, self.fixed = device, fixed
        self.first = pooling == "first" and isinstance(backbone.layers[-1], Layer)
        self.cost = ForwardCost.of_backbone(backbone, head_size, first=self.first)
        self.graphs = Graphs(self._compute, device) if graphs and device.type == "cuda" else None

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        parts = ["varlen"]
        if self.graphs is not None:
            failure = self.graphs.failure
            parts.append("CUDA graphs" if failure is None else f"no CUDA graphs: {failure}")
        if self.fixed is not None:
            parts.append(f"deterministic, {self.fixed.rows} rows")
        return ", ".join(parts)

    def run(self, texts: Sequence[Pair]) -> Output:
        """Compute a batch: one pass, or several where a fixed size holds fewer texts."""
        with self._on_device():
            outputs = [self._pass(part) for part in self._parts(texts)]
        return Output(
            torch.cat([output.values for output in outputs]),
            sum(output.padded for output in outputs),
            sum(output.flops for output in outputs),
        )

    def _parts(self, texts: Sequence[Pair]) -> Iterator[Sequence[Pair]]:
        """Texts that share a pass."""
        if self.fixed is None:
            yield texts
            return
        part: list[Pair] = []
        tokens = 0
        for text in texts:
            if part and (tokens + len(text.ids) >= self.fixed.rows or len(part) == self.fixed.texts):
                yield part
                part, tokens = [], 0
            part.append(text)
            tokens += len(text.ids)
        yield part

    def _pass(self, texts: Sequence[Pair]) -> Output:
        lengths = [len(text.ids) for text in texts]
        real = sum(lengths)
        sizes = self._sizes(lengths)
        host = torch.zeros(sizes.numbers, dtype=torch.int32, pin_memory=self.device.type == "cuda")
        fill(host.numpy(), texts, lengths, sizes.rows)
        seen = seen_of(texts)
        if seen is not None:  # text by text, which no graph can record
            row = row_from(host.to(self.device, non_blocking=True), sizes)
            values = self._values(replace(row, runs=runs_of(lengths), seen=seen.to(self.device)))
        elif self.graphs is not None and sizes.rows <= MOST_RECORDED:
            values = self.graphs(host, sizes)
        else:
            values = self._compute(host.to(self.device, non_blocking=True), sizes)
        wanted = values[: real if self.pooling == "none" else len(texts)]
        flops = self.cost.flops(sizes.rows, lengths, sizes.rows if self.pooling == "none" else sizes.texts)
        return Output(wanted.float().cpu(), sizes.rows - real, flops)

    def _sizes(self, lengths: Sequence[int]) -> Sizes:
        if self.fixed is None:
            return sizes_of(lengths)
        fits = sum(lengths) < self.fixed.rows and max(lengths) <= self.fixed.longest
        return self.fixed if fits else sizes_of(lengths)  # a text that is too long is alone

    def _compute(self, inputs: Tensor, sizes: Sizes) -> Tensor:
        return self._values(row_from(inputs, sizes))

    def _values(self, row: Row) -> Tensor:
        pooled: Tensor = self.backbone(row) if self.pooling == "none" else self._pooled(row)
        if self.head is not None:
            return self.head(pooled.float())
        return pooled if self.pooling == "none" else pooled.float()

    def _pooled(self, row: Row) -> Tensor:
        """[texts, hidden]; what it is for empty texts is never read."""
        if self.first:
            first: Tensor = self.backbone.first(row)
            return first
        hidden: Tensor = self.backbone(row)
        if self.pooling == "first":
            return hidden[row.first]
        means: Tensor = torch.segment_reduce(hidden.float(), "mean", offsets=row.ends.long(), unsafe=True)
        return means

    def _on_device(self) -> AbstractContextManager[object]:
        """Kernels are launched on the current device, whatever their tensors say."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()


def row_from(inputs: Tensor, sizes: Sizes) -> Row:
    """Views of what `fill` has written."""
    ids, types, places = inputs[: 3 * sizes.rows].view(3, sizes.rows)
    return Row(ids, types, places, inputs[3 * sizes.rows :], sizes.longest)


def fixed_sizes(rows: int, longest: int) -> Sizes:
    """Of all passes, for batches of `rows` tokens of texts of at most `longest`."""
    rounded = rounded_rows(rows + 1)
    return Sizes(rounded, rounded // 16, _power(longest, least=64))


def _power(number: int, *, least: int) -> int:
    """The smallest power of two that is no smaller."""
    return max(least, 1 << (number - 1).bit_length())
