"""Each document by itself."""

from __future__ import annotations

from rerank.questions import Algorithm, Grade, Graded, Plan
from rerank.types import Ranking

__all__ = ["pointwise"]


def _pointwise(ranking: Ranking) -> Plan:
    """Grade every document once and put them in the order of their grades.

    One round of n questions; equal grades keep the incoming order (Nogueira & Cho, 2019,
    https://arxiv.org/abs/1901.04085).
    """
    answers = yield [Grade(ranking.query, document) for document in ranking.documents]
    scores = [answer.score for answer in answers if isinstance(answer, Graded)]
    return Ranking.by_score(ranking.query, ranking.documents, scores)


pointwise = Algorithm("pointwise", _pointwise, asks=frozenset({Grade}), exact=lambda count: count)
