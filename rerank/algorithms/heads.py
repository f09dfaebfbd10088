"""The head: how many top positions an algorithm puts in order, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Sequence

from rerank.errors import InputError
from rerank.types import Document, Ranking

__all__ = ["check_head", "head_of", "head_then_rest"]


def check_head(head: int) -> None:
    """Refuse a head without a position."""
    if head < 1:
        raise InputError(f"head={head}; choose at least 1 position to put in order")


def head_of(count: int, *, head: int = 10, **others: object) -> int:
    """How many positions of `count` documents are put in order."""
    return min(head, count)


def head_then_rest(ranking: Ranking, best: Sequence[Document]) -> Ranking:
    """The documents that were placed, best first, and below them all others in their old order."""
    placed = {document.doc_id for document in best}
    rest = [document for document in ranking.documents if document.doc_id not in placed]
    return Ranking.by_order(ranking, [*best, *rest])
