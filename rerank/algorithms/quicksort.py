"""Quicksort by pairs: everything against one pivot at once, and no deeper than the head reaches.

Podolak et al., 2025, Are Optimal Algorithms Still Optimal? (https://arxiv.org/abs/2505.24643): where a call
answers many comparisons, what counts is how many calls follow each other, and a partition is one call.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from rerank.algorithms.answers import beats, both_orders
from rerank.algorithms.heads import check_head, head_of, head_then_rest
from rerank.questions import Algorithm, Compare, Plan
from rerank.types import Document, Query, Ranking

__all__ = ["quicksort"]


class _Part(NamedTuple):
    """Places `start` and on of the list, whose documents are known and whose order is not."""

    start: int
    documents: list[Document]

    @property
    def pivot(self) -> int:
        return len(self.documents) // 2

    @property
    def others(self) -> list[Document]:
        return self.documents[: self.pivot] + self.documents[self.pivot + 1 :]


def _quicksort(ranking: Ranking, *, head: int = 10, calibrated: bool = False) -> Plan:
    """Split the list around its middle document, and each part that reaches into the head around its own.

    A document goes above the pivot where both orders say that it is better, below it where both say that it is worse;
    ties stay on the side they came from, so that they keep the incoming order. All partitions of a depth are asked in
    one round. For a judge without contradictions about 2 · 2 n questions in 2 log₂ n rounds for a small head; at worst
    n (n − 1) in n − 1 rounds.

    Args:
        head: how many positions are put in order.
        calibrated: decide by the more probable of both orders, instead of by their agreement.

    Raises:
        InputError: when the head holds nothing.
    """
    check_head(head)
    order = list(ranking.documents)
    parts = [_Part(0, order)]
    while parts := [part for part in parts if len(part.documents) > 1 and part.start < head]:
        answers = iter((yield [question for part in parts for question in _against_pivot(ranking.query, part)]))
        following: list[_Part] = []
        for part in parts:
            wins = [beats(*islice(answers, 2), calibrated=calibrated) for _ in part.others]
            above, below = _split(part, wins)
            order[part.start : below.start + len(below.documents)] = [
                *above.documents,
                part.documents[part.pivot],
                *below.documents,
            ]
            following += [above, below]
        parts = following
    return head_then_rest(ranking, order[: min(head, len(order))])


def _against_pivot(query: Query, part: _Part) -> list[Compare]:
    pivot = part.documents[part.pivot]
    return [question for other in part.others for question in both_orders(query, other, pivot)]


def _split(part: _Part, wins: list[bool | None]) -> tuple[_Part, _Part]:
    """What stands above the pivot and what below, each in the incoming order."""
    above: list[Document] = []
    below: list[Document] = []
    for place, (other, won) in enumerate(zip(part.others, wins, strict=True)):
        (above if won or (won is None and place < part.pivot) else below).append(other)
    return _Part(part.start, above), _Part(part.start + len(above) + 1, below)


quicksort = Algorithm("quicksort", _quicksort, asks=frozenset({Compare}), exact=head_of)
