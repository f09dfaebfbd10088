"""How much of a prompt each document may take."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["shares"]


def shares(lengths: Sequence[int], room: int) -> list[int]:
    """The most tokens of each document, so that together they take no more than there is room for.

    Each gets as much as every other; what short documents do not need goes to the longer ones. What is left over
    goes to the first.

    Args:
        lengths: tokens of each document.
        room: tokens there are, at least 0.

    >>> shares([10, 200, 100], 150)
    [10, 70, 70]
    """
    given = [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    for place, index in enumerate(order):
        given[index] = min(lengths[index], room // (len(order) - place))
        room -= given[index]
    for index, length in enumerate(lengths):
        more = min(length - given[index], room)
        given[index] += more
        room -= more
    return given
