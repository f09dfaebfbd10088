"""Which document of two is the better one, in both orders, from whatever an example's labels are."""

from __future__ import annotations

from typing import Any

from training.examples import Example

__all__ = ["COMPARED_BY", "comparisons"]

COMPARED_BY = ("relevance", "pairs", "order", "scores")
"""The labels that say it; the first that an example has is taken."""


def comparisons(example: Example, kind: str | None = None) -> list[tuple[int, int, float]]:
    """Every pair that the labels tell apart, and the same pair the other way round: duoT5's training pairs
    (https://arxiv.org/abs/2101.05667).

    Args:
        example: a list; without labels all pairs are given, with no winner (NaN).
        kind: of labels; None: the first of `COMPARED_BY` that there is.

    Returns:
        (first, second, how surely the first wins): 1 or 0, or what a teacher of pairs said.
    """
    kinds = COMPARED_BY if kind is None else (kind,)
    found: Any = next((kind for kind in kinds if getattr(example, kind) is not None), None)
    if found == "pairs":
        judged = {(two, one): 1 - wins for one, two, wins in example.pairs or ()}
        judged |= {(one, two): wins for one, two, wins in example.pairs or ()}  # what was asked goes first
        return [(one, two, wins) for (one, two), wins in judged.items()]
    worth = _worth(example, found)
    places = range(len(example))
    if worth is None:
        return [(one, two, float("nan")) for one in places for two in places if one != two]
    return [(one, two, float(worth[one] > worth[two])) for one in places for two in places if worth[one] != worth[two]]


def _worth(example: Example, kind: str | None) -> Any:
    if kind != "order":
        return None if kind is None else getattr(example, kind)
    ranks = {index: rank for rank, index in enumerate(example.order or ())}
    return [-ranks[index] for index in range(len(example))]
