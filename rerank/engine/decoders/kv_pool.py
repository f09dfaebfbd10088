"""Keys and values of tokens, in one pool of slots that many prompts read and none copies.

A token's keys and values lie in one slot, in every layer. What is allocated together lies in a *run* of consecutive
slots, so that a prompt's tokens are named by a few runs, in order.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["KeyValues", "Run", "joined"]

Run: TypeAlias = tuple[int, int]
"""(first slot, number of slots)."""

GROWTH = 2  # the pool becomes so many times as large when it is full


class KeyValues:
    """A pool of slots, of which each holds the keys (rotated) and values of one token in all layers.

    It grows when an allocation does not fit, and never shrinks. Runs that lie side by side are one when they are free.

    Args:
        layers, heads, dim: layers, key heads and head size of the model.
        dtype, device: of keys and values.
        slots: to begin with.

    Attributes:
        keys, values: for each layer [slots, heads, dim]. Growing replaces them: keep no reference.
    """

    def __init__(
        self, layers: int, heads: int, dim: int, *, dtype: torch.dtype, device: torch.device, slots: int = 1024
    ) -> None:
        self._shape = (heads, dim)
        self._dtype, self._device = dtype, device
        self.keys: list[Tensor] = [self._empty(slots) for _ in range(layers)]
        self.values: list[Tensor] = [self._empty(slots) for _ in range(layers)]
        self._free: list[Run] = [(0, slots)]

    @property
    def capacity(self) -> int:
        """Slots there are."""
        return len(self.keys[0])

    @property
    def used(self) -> int:
        """Slots that are taken."""
        return self.capacity - sum(length for _, length in self._free)

    @property
    def bytes_per_token(self) -> int:
        """Of keys and values in all layers."""
        return 2 * len(self.keys) * self._shape[0] * self._shape[1] * self.keys[0].element_size()

    def allocate(self, tokens: int) -> int:
        """Take a run of so many slots: the first of them. Their contents are what was there before."""
        for index, (start, length) in enumerate(self._free):
            if length >= tokens:
                self._free[index : index + 1] = [(start + tokens, length - tokens)] if length > tokens else []
                return start
        self._grow(tokens)
        return self.allocate(tokens)

    def free(self, start: int, tokens: int) -> None:
        """Give slots back: a whole run, or any part of one."""
        index = bisect(self._free, (start, tokens))
        near = slice(max(0, index - 1), index + 1)  # it may join the free runs on either side
        before, behind = self._free[near.start : index], self._free[index : near.stop]
        self._free[near] = joined([*before, (start, tokens), *behind])

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put tokens into their slots: int64 [tokens]; [tokens, heads, dim] twice."""
        self.keys[layer].index_copy_(0, slots, keys)
        self.values[layer].index_copy_(0, slots, values)

    def _grow(self, tokens: int) -> None:
        old = self.capacity
        more = max(tokens, (GROWTH - 1) * old)
        for pool in (self.keys, self.values):
            for layer, held in enumerate(pool):
                pool[layer] = torch.cat([held, self._empty(more)])
        self.free(old, more)

    def _empty(self, slots: int) -> Tensor:
        return torch.zeros(slots, *self._shape, dtype=self._dtype, device=self._device)


def joined(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The same slots in the same order, with runs that follow each other made one, and empty ones left out."""
    whole = [run for run in runs if run[1]]
    starts = [0] + [index for index, (one, two) in enumerate(pairwise(whole), 1) if one[0] + one[1] != two[0]]
    parts = [whole[start:end] for start, end in pairwise([*starts, len(whole)])]
    return tuple((part[0][0], sum(length for _, length in part)) for part in parts if part)
