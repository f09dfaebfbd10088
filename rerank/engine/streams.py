"""Parts of a batch side by side, each on one thread of its own.

Threads that share every product wait for each other a hundred times a pass, for whoever was held up last. Here each
computes texts of its own and nobody waits before the end. A score has the same bits either way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

from rerank.kernels.native.openmp import one_thread_here

__all__ = ["FEWEST", "PART", "parts_of", "side_by_side"]

PART = 2048
"""The most tokens of a part, but for a longer text: as many as keep a core's products large."""

FEWEST = 768
"""Tokens a thread below which a batch is not worth dividing: Python's own part of a pass is not divided."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def parts_of(lengths: Sequence[int], threads: int) -> list[slice[int, int, None]]:
    """Which neighbours are computed together: about equally many tokens, a multiple of `threads` parts.

    One part when there is one thread, or too little work.
    """
    total = sum(lengths)
    if threads < 2 or total < threads * FEWEST:
        return [slice(0, len(lengths))]
    count = threads * -(-total // (threads * PART))
    ends = list(itertools.accumulate(lengths))
    wanted = [total * part / count for part in range(1, count)]
    places = iter(range(len(ends)))
    cuts = [next((place + 1 for place in places if ends[place] >= goal), len(ends)) for goal in wanted]
    borders = [0, *cuts, len(lengths)]
    return [slice(start, stop) for start, stop in itertools.pairwise(borders) if start < stop]


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Apply a function of torch to each item, `threads` at a time and one thread each; results in order."""

    def apply(item: Item) -> Result:
        with torch.inference_mode():  # which a thread does not take over from who starts it
            return function(item)

    return list(_threads(threads).map(apply, items))


@lru_cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="rerank-stream", initializer=one_thread_here)
