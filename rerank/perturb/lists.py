"""Changed lists of candidates: another order, and fewer of them. Scores stay with the ranks, not with the documents."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from rerank.types import Candidate, Document, Ranking

__all__ = ["halved", "reversed_order", "shuffled"]


def shuffled(ranking: Ranking, chance: Random) -> Ranking:
    """The documents in an order that means nothing."""
    return _ordered(ranking, chance.sample(ranking.documents, len(ranking)))


def reversed_order(ranking: Ranking, chance: Random) -> Ranking:
    """The worst document first."""
    return _ordered(ranking, ranking.documents[::-1])


def halved(ranking: Ranking, chance: Random) -> Ranking:
    """The better half alone, the odd one included."""
    return ranking[: -(-len(ranking) // 2)]


def _ordered(ranking: Ranking, documents: Sequence[Document]) -> Ranking:
    """A list as the first stage might have given it: its scores fall as they did."""
    scores = [candidate.score for candidate in ranking]
    return Ranking(ranking.query, tuple(map(Candidate, documents, scores)))
