"""A batch as one row of tokens: texts side by side, positions restarting, filler at the end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rerank.engine.tokens import Pair

__all__ = ["Row", "Run", "array_of", "row_of", "runs_of"]


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
        ids, types, places: integers [rows]; a token's place in its own text counts from 0; filler is all zeros.
        ends: int32 [texts + 1], where texts start, and at last the number of tokens without filler.
        longest: tokens of the longest text, or more.
        runs: the texts in order; empty where their lengths are not known on the host (a recorded CUDA graph).
    """

    ids: Tensor
    types: Tensor
    places: Tensor
    ends: Tensor
    longest: int
    runs: tuple[Run, ...] = ()

    @property
    def rows(self) -> int:
        """Tokens, filler included."""
        return len(self.ids)

    @property
    def first(self) -> Tensor:
        """Where each text starts: [texts]."""
        return self.ends[:-1]


def row_of(texts: Sequence[Pair], rows: int) -> Row:
    """Texts side by side on the CPU, filled up to a number of rows."""
    lengths = [len(text.ids) for text in texts]
    array, ends = array_of(texts, lengths, rows, np.int64)
    ids, types, places = torch.from_numpy(array)
    return Row(ids, types, places, torch.from_numpy(ends), max(lengths), runs_of(lengths))


def array_of(
    texts: Sequence[Pair], lengths: Sequence[int], rows: int, dtype: type[np.integer]
) -> tuple[np.ndarray, np.ndarray]:
    """Ids, types and places of the tokens as [3, rows], and where texts start and end as int32 [texts + 1]."""
    ends = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=ends[1:])
    real = ends[-1]
    array = np.zeros((3, rows), dtype)
    np.concatenate([text.ids for text in texts], out=array[0, :real], casting="unsafe")
    np.concatenate([text.types for text in texts], out=array[1, :real], casting="unsafe")
    array[2, :real] = np.arange(real) - np.repeat(ends[:-1], lengths)
    return array, ends


def runs_of(lengths: Sequence[int]) -> tuple[Run, ...]:
    """Neighbours of equal length, joined."""
    runs = []
    start = 0
    for length, group in itertools.groupby(lengths):
        runs.append(Run(start, sum(1 for _ in group), length))
        start += runs[-1].count * length
    return tuple(runs)
