"""A batch as one row of tokens: texts side by side, positions restarting, filler at the end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerank.engine.tokens import Pair

__all__ = ["Row", "Run", "fill", "moved", "row_of", "runs_of", "seen_of"]


@dataclass(frozen=True, slots=True)
class Run:
    """`count` texts of one length, side by side from `start` on, which attention can take in one call."""

    start: int
    count: int
    length: int

    @property
    def tokens(self) -> slice:
        """Where they lie in the row."""
        return slice(self.start, self.start + self.count * self.length)


@dataclass(frozen=True, slots=True)
class Row:
    """What a pass reads.

    Args:
        ids, types, places: int32 [rows]; a token's place in its own text counts from 0; filler is all zeros.
        ends: int32 [texts + 1], where texts start, and at last the number of tokens without filler.
        longest: tokens of the longest text, or more.
        runs: the texts in order; empty where their lengths are not known on the host (a recorded CUDA graph).
        sets: int32 [sets + 1], where sets of texts that know of each other start among the texts, and at last the
            number of texts; None where texts know nothing of each other.
        seen: int64 [texts], how many of a text's tokens attention looks at; None: all of all.
    """

    ids: Tensor
    types: Tensor
    places: Tensor
    ends: Tensor
    longest: int
    runs: tuple[Run, ...] = ()
    sets: Tensor | None = None
    seen: Tensor | None = None

    @property
    def rows(self) -> int:
        """Tokens, filler included."""
        return len(self.ids)

    @property
    def first(self) -> Tensor:
        """Where each text starts: [texts]."""
        return self.ends[:-1]


def row_of(texts: Sequence[Pair], rows: int, sets: Sequence[int] | None = None) -> Row:
    """Texts side by side on the CPU, filled up to a number of rows.

    Args:
        texts: at least one.
        rows: token rows, filler included.
        sets: how many texts each set has, where they are sets.
    """
    lengths = [len(text.ids) for text in texts]
    inputs = np.zeros(3 * rows + len(texts) + 1, np.int32)
    fill(inputs, texts, lengths, rows)
    ids, types, places = torch.from_numpy(inputs[: 3 * rows].reshape(3, rows))
    ends = None if sets is None else torch.from_numpy(np.cumsum([0, *sets], dtype=np.int32))
    starts = torch.from_numpy(inputs[3 * rows :])
    return Row(ids, types, places, starts, max(lengths), runs_of(lengths), ends, seen_of(texts))


def moved(row: Row, device: torch.device) -> Row:
    """The same on another device."""
    ids, types, places, ends = (tensor.to(device) for tensor in (row.ids, row.types, row.places, row.ends))
    sets, seen = (None if part is None else part.to(device) for part in (row.sets, row.seen))
    return Row(ids, types, places, ends, row.longest, row.runs, sets, seen)


def seen_of(texts: Sequence[Pair]) -> Tensor | None:
    """How many tokens of each text are looked at: int64 [texts], or None where all are."""
    if not any(text.seen for text in texts):
        return None
    return torch.tensor([text.seen or len(text.ids) for text in texts])


def fill(inputs: NDArray[np.int32], texts: Sequence[Pair], lengths: Sequence[int], rows: int) -> None:
    """Write ids, types and places of the tokens [3, rows], and where texts start and end [texts + 1].

    Args:
        inputs: zeros, [3 * rows + texts + 1]; texts that are missing become empty ones.
        texts: what to write.
        lengths: theirs.
        rows: token rows, filler included.
    """
    tokens, ends = inputs[: 3 * rows].reshape(3, rows), inputs[3 * rows :]
    np.cumsum(lengths, out=ends[1 : len(lengths) + 1])
    real = ends[len(lengths)]
    ends[len(lengths) :] = real
    np.concatenate([text.ids for text in texts], out=tokens[0, :real])
    np.concatenate([text.types for text in texts], out=tokens[1, :real])
    begins = [text.start for text in texts]
    tokens[2, :real] = np.arange(real) - np.repeat(ends[: len(lengths)] - np.array(begins, np.int32), lengths)


def runs_of(lengths: Sequence[int]) -> tuple[Run, ...]:
    """Neighbours of equal length, joined."""
    runs = []
    start = 0
    for length, group in itertools.groupby(lengths):
        runs.append(Run(start, sum(1 for _ in group), length))
        start += runs[-1].count * length
    return tuple(runs)
