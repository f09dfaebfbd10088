"""Pairs of documents, compared side by side in one round, and what the comparisons add up to.

Every pair is asked in both orders, because models prefer a place in the prompt.
"""

from __future__ import annotations

import random
from itertools import combinations, pairwise

from rerank.algorithms.aggregate import AGGREGATES, matrix_of, scores_of
from rerank.algorithms.answers import both_orders, probability
from rerank.errors import InputError
from rerank.questions import Algorithm, Compare, Plan
from rerank.types import Ranking

__all__ = ["all_pairs"]

UNSURE = frozenset({"min", "max", "elo", "page-rank", "eigen", "rank-centrality"})
"""Aggregates that promise no order: they see one opponent alone, or who played last, or where a walk ends."""


def _all_pairs(ranking: Ranking, *, aggregate: str = "wins", share: float = 1.0, seed: int = 0) -> Plan:
    """Compare every document with every other, and score each by its comparisons.

    Pairwise ranking prompting (Qin et al., 2023, https://arxiv.org/abs/2306.17563) counts wins: one where both orders
    agree, half a win each where they do not. duoT5 adds up probabilities (Pradeep et al., 2021,
    https://arxiv.org/abs/2101.05667). Equal scores keep the incoming order. One round of n (n − 1) questions.

    Args:
        aggregate: how comparisons become scores: wins, win-rate, sum, sym-sum, log-sum, sym-log-sum, binary, min, max,
            bradley-terry, elo, page-rank, eigen or rank-centrality (`rerank.algorithms.aggregate`).
        share: of the pairs that is asked, above 0 to 1, at least one pair for each document; drawn from the seed.
        seed: of the pairs that are asked.

    Raises:
        InputError: when there is no such aggregate, or the share is not above 0 and at most 1.
    """
    if aggregate not in AGGREGATES:
        raise InputError(f"aggregate={aggregate!r}; there is {', '.join(AGGREGATES)}")
    if not 0 < share <= 1:
        raise InputError(f"share={share}; ask a share of the pairs above 0 and at most 1")
    documents = ranking.documents
    pairs = _sampled(len(documents), share, seed)
    answers = yield [question for i, j in pairs for question in both_orders(ranking.query, documents[i], documents[j])]
    shown = [order for i, j in pairs for order in ((i, j), (j, i))]
    said = dict(zip(shown, map(probability, answers), strict=True))
    return Ranking.by_score(ranking.query, documents, scores_of(matrix_of(len(documents), said), aggregate).tolist())


def _sampled(count: int, share: float, seed: int) -> list[tuple[int, int]]:
    """Which pairs are asked: at least a chain through all documents, so that none is without a comparison."""
    every = list(combinations(range(count), 2))
    if share == 1.0:
        return every
    dice = random.Random(seed)
    chain = dice.sample(range(count), count)
    chosen = {(min(pair), max(pair)) for pair in pairwise(chain)}
    others = [pair for pair in every if pair not in chosen]
    wanted = max(0, round(share * len(every)) - len(chosen))
    return sorted(chosen.union(dice.sample(others, wanted)))


def _exact(count: int, *, aggregate: str = "wins", share: float = 1.0, seed: int = 0) -> int:
    """All, when all pairs are asked and the aggregate promises an order."""
    return count if share == 1.0 and aggregate not in UNSURE else 0


all_pairs = Algorithm("all-pairs", _all_pairs, asks=frozenset({Compare}), exact=_exact)
