"""Top-down partitioning: one window sets a bar, and all others are held against it at once.

Parry et al., 2024, Top-Down Partitioning for Efficient List-Wise Ranking (https://arxiv.org/abs/2405.14589).
"""

from __future__ import annotations

from collections.abc import Sequence

from rerank.algorithms.answers import order
from rerank.algorithms.heads import head_then_rest
from rerank.algorithms.heaps import Asking
from rerank.errors import InputError
from rerank.questions import Algorithm, Permute, Plan
from rerank.types import Document, Query, Ranking

__all__ = ["top_down"]


def _top_down(ranking: Ranking, *, window: int = 20, pivot: int = 10) -> Plan:
    """Order the first window, and take the document at rank `pivot` of it as the bar for everything below.

    All further windows hold the pivot and window − 1 others, and are asked in one round; who comes before the pivot
    there is still in the running, together with those above it in the first window. While there are more than a
    window of these, they are treated likewise; at last they are put in order. Below them stand the pivots, and below
    each who lost to it, in the order of the last window that held them. Two rounds for each partition and one at the
    end; each partition takes at least window − pivot + 1 documents out of the running.

    Args:
        window: documents per question, at least 3.
        pivot: rank of the pivot in the first window, from 2 to window − 1.

    Raises:
        InputError: when the pivot does not stand inside the window.
    """
    if not 1 < pivot < window:
        raise InputError(f"pivot={pivot} of a window of {window}; choose 1 < pivot < window")
    running, placed = list(ranking.documents), list[Document]()
    while len(running) > window:
        running, below = yield from _partition(ranking.query, running, window, pivot)
        placed = below + placed
    best = yield from _ordered(ranking.query, [running])
    return head_then_rest(ranking, [*best[0], *placed])


def _partition(
    query: Query, running: Sequence[Document], window: int, pivot: int
) -> Asking[tuple[list[Document], list[Document]]]:
    """Who is still in the running, and the pivot with all who lost to it below."""
    [first] = yield from _ordered(query, [running[:window]])
    bar = first[pivot - 1]
    others = running[window:]
    blocks = [[bar, *others[at : at + window - 1]] for at in range(0, len(others), window - 1)]
    ordered = yield from _ordered(query, blocks)
    above, below = first[: pivot - 1], [bar, *first[pivot:]]
    for block in ordered:
        place = block.index(bar)
        above += block[:place]
        below += block[place + 1 :]
    return above, below


def _ordered(query: Query, blocks: Sequence[Sequence[Document]]) -> Asking[list[list[Document]]]:
    """Each block in the judge's order; a block of one needs no judge."""
    ordered = [list(block) for block in blocks]
    questions = {place: Permute(query, tuple(block)) for place, block in enumerate(blocks) if len(block) > 1}
    answers = (yield [*questions.values()]) if questions else []
    for (place, question), answer in zip(questions.items(), answers, strict=True):
        ordered[place] = [question.documents[index] for index in order(question, answer)]
    return ordered


def _exact(count: int, *, window: int = 20, pivot: int = 10) -> int:
    """Everything better than a pivot stays in the running, and the pivot comes next."""
    return count if count <= window else pivot


top_down = Algorithm("top-down", _top_down, asks=frozenset({Permute}), exact=_exact)
