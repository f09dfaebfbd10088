"""Which texts share a forward pass: pure functions of lengths."""

from __future__ import annotations

from collections.abc import Sequence

from rerank.errors import InputError

__all__ = ["by_length", "in_order"]


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


def _check(budget: int) -> None:
    if budget < 1:
        raise InputError(f"a budget of {budget} tokens holds no text; choose at least 1")
