"""Answer scent: an answer is written once, and documents are graded by how likely they make it."""

from __future__ import annotations

from rerank.errors import JudgeError
from rerank.questions import Algorithm, Grade, Graded, Plan, Write, Written
from rerank.types import Ranking

__all__ = ["answer_scent"]


def _answer_scent(ranking: Ranking) -> Plan:
    """Have an answer to the query written without any document, then grade each document by the answer's likelihood.

    ASRank (Abdallah et al., 2025, https://arxiv.org/abs/2501.15245). Two rounds, of one question and of n. What a
    writer leaves empty is a repair that its answer tells of; documents are then graded by the query's own likelihood.
    Equal grades keep the incoming order.

    Raises:
        JudgeError: when the answer to a Write is none.
    """
    query = ranking.query
    if not ranking:
        return ranking
    [answer] = yield [Write(query)]
    if not isinstance(answer, Written):
        raise JudgeError(
            f"a judge answered a Write of query {query.query_id!r} with {answer!r}; it answers with Written"
        )
    scent = answer.text.strip() or query.text
    answers = yield [Grade(query, document, continuation=scent) for document in ranking.documents]
    scores = [graded.score for graded in answers if isinstance(graded, Graded)]
    return Ranking.by_score(query, ranking.documents, scores)


answer_scent = Algorithm("answer-scent", _answer_scent, asks=frozenset({Write, Grade}), exact=lambda count: count)
