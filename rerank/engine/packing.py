"""Which texts share a forward pass, and how many rows it gets: pure functions of lengths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

from rerank.errors import InputError

__all__ = ["by_length", "in_order", "settled_rows"]

GRAIN = 32_768  # at::internal::GRAIN_SIZE: elements below which torch gives an elementwise operation to one thread
LANES = 32  # float32 values that an unrolled AVX-512 loop takes at once


def in_order(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Batches for a packed pass, where a token costs the same wherever it stands: cut when the budget is full.

    Args:
        lengths: tokens of each text.
        budget: the most tokens in a batch; a longer text goes alone.

    Returns:
        Indices into `lengths`, each once, in the order given.
    """
    _check(budget)
    batches: list[list[int]] = []
    full = 0
    for index, length in enumerate(lengths):
        if not batches or full + length > budget:
            batches.append([])
            full = 0
        batches[-1].append(index)
        full += length
    return batches


def by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Batches for a padded pass, where each text costs as much as the longest: the longest first, together.

    Args:
        lengths: tokens of each text.
        budget: the most tokens in a batch, padding included; a longer text goes alone.

    Returns:
        Indices into `lengths`, each once, by descending length; equal lengths keep their order.
    """
    _check(budget)
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[batches[-1][0]] if batches else 0
        if not batches or longest * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(index)
    return batches


@lru_cache(maxsize=65_536)
def settled_rows(rows: int, widths: frozenset[int], threads: int) -> int:
    """The fewest rows, at least `rows`, for which every thread's share of an activation is whole vectors.

    Torch splits an elementwise operation over [rows, width] into equal shares by the number of elements. What is left
    over at the end of a share is computed by scalar code, whose last bit may differ; which values that hits would then
    depend on the batch.

    Args:
        rows: token rows of the pass.
        widths: of the activations that may occur.
        threads: that torch uses.
    """
    return next(count for count in itertools.count(rows) if all(_settled(count, width, threads) for width in widths))


def _settled(rows: int, width: int, threads: int) -> bool:
    elements = rows * width
    share = -(-elements // min(threads, -(-elements // GRAIN)))
    unit = math.lcm(LANES, width) if width % LANES else LANES  # of odd widths, whole rows
    return elements % unit == 0 and share % unit == 0


def _check(budget: int) -> None:
    if budget < 1:
        raise InputError(f"a budget of {budget} tokens holds no text; choose at least 1")
