"""Groups read together: scored group by group, and the worst of the list put out one after the other."""

from __future__ import annotations

import random

from rerank.algorithms.answers import chosen, grades
from rerank.errors import InputError
from rerank.questions import Algorithm, GradeSet, Pick, Plan
from rerank.types import Ranking

__all__ = ["exclusion", "group_scores", "priors"]


def _group_scores(ranking: Ranking, *, group: int = 20, epochs: int = 1, shuffle: bool = False, seed: int = 0) -> Plan:
    """Score groups of documents that are read together; with several epochs the mean over differently dealt groups.

    As GroupRank (https://arxiv.org/abs/2511.11653) scores groups, and the set-encoder (https://arxiv.org/abs/2404.06912)
    the whole list at once. One round of epochs · ⌈n / group⌉ questions. The first epoch deals the list in its order,
    every further one in an order drawn from the seed. Equal scores keep the incoming order. Where the candidates come
    with a score each, the questions say what it was, from 0 for the list's lowest to 1 for its highest, for judges that
    read it (Fusion-in-T5).

    Args:
        group: the most documents in a question; 0 reads the whole list at once.
        epochs: how often each document is scored.
        shuffle: deal the first epoch in a drawn order too, as GroupRank does.
        seed: of the orders.

    Raises:
        InputError: when the group is negative or there is no epoch.
    """
    if group < 0 or epochs < 1:
        raise InputError(f"group={group} and epochs={epochs}; choose a group of at least 1, or 0 for all, and an epoch")
    documents, count = ranking.documents, len(ranking)
    dice, size = random.Random(seed), group or max(1, count)
    first = 0 if shuffle else 1
    orders = [*[list(range(count))] * first, *(dice.sample(range(count), count) for _ in range(epochs - first))]
    dealt = [one[at : at + size] for one in orders for at in range(0, count, size)]
    known = priors(ranking)
    questions = [
        GradeSet(
            ranking.query,
            tuple(documents[index] for index in members),
            priors=None if known is None else tuple(known[index] for index in members),
        )
        for members in dealt
    ]
    answers = (yield [*questions]) if questions else []
    sums = [0.0] * count
    for members, question, answer in zip(dealt, questions, answers, strict=True):
        for index, score in zip(members, grades(question, answer), strict=True):
            sums[index] += score
    return Ranking.by_score(ranking.query, documents, [total / epochs for total in sums])


def priors(ranking: Ranking) -> tuple[float, ...] | None:
    """The candidates' scores, the lowest as 0 and the highest as 1 (where all are equal, 1); None when one has none."""
    scores = [candidate.score for candidate in ranking if candidate.score is not None]
    if len(scores) < len(ranking) or not scores:
        return None
    low, high = min(scores), max(scores)
    return tuple((score / 2 - low / 2) / (high / 2 - low / 2) if high > low else 1.0 for score in scores)


def _exclusion(ranking: Ranking) -> Plan:
    """Ask for the worst of those that are left, until one is left; the last one out is the best.

    IRanker (Feng et al., 2025, https://arxiv.org/abs/2506.21638). n − 1 questions in as many rounds. Where an answer
    cannot be read the last one in the incoming order goes.
    """
    left = list(ranking.documents)
    excluded = []
    while len(left) > 1:
        question = Pick(ranking.query, tuple(left), worst=True)
        [answer] = yield [question]
        worst = chosen(question, answer)
        excluded.append(left.pop(-1 if worst is None else worst))
    return Ranking.by_order(ranking, [*left, *reversed(excluded)])


group_scores = Algorithm(
    "group-scores", _group_scores, asks=frozenset({GradeSet}), exact=lambda count, **options: count
)
exclusion = Algorithm("exclusion", _exclusion, asks=frozenset({Pick}), exact=lambda count: count)
