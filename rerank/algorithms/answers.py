"""Answers, read and checked: what is wrong with one is told as the judge's mistake, with the query and the values."""

from __future__ import annotations

from collections.abc import Sequence

from rerank.errors import JudgeError
from rerank.questions import (
    Answer,
    Compare,
    Compared,
    Graded,
    GradedSet,
    GradeSet,
    Permute,
    Permuted,
    Pick,
    Picked,
    Question,
)
from rerank.types import Document, Query

__all__ = ["beats", "best", "both_orders", "chosen", "graded", "grades", "order", "picked", "probability"]


def both_orders(query: Query, one: Document, other: Document) -> list[Compare]:
    """The two questions about a pair: models prefer a place in the prompt, so each document is shown first once."""
    return [Compare(query, one, other), Compare(query, other, one)]


def beats(there: Answer, back: Answer, *, calibrated: bool = False) -> bool | None:
    """Whether the first of a pair wins, by the answers to `both_orders`; None when the two orders do not agree.

    An answer of 0.5, and one that could not be read, agrees with nothing.

    Args:
        calibrated: whoever is the more probable winner when shown first wins, even where a judge that prefers the
            first place says "the first" twice (LLM-RankFusion; Zeng et al., 2024, https://arxiv.org/abs/2406.00231).
    """
    first, second = probability(there), probability(back)
    if first is None or second is None:
        return None
    if calibrated:
        return None if first == second else first > second
    if first > 0.5 > second:
        return True
    return False if first < 0.5 < second else None


def best(question: Pick, answer: Answer) -> int:
    """The index of the one document picked; the one shown first where what was written could not be read.

    Raises:
        JudgeError: when the judge picked several, or one that was not shown.
    """
    return chosen(question, answer) or 0


def chosen(question: Pick, answer: Answer) -> int | None:
    """The index of the one document picked; None where what was written could not be read, and was told so.

    Raises:
        JudgeError: when the judge picked several, one that was not shown, or none without a word.
    """
    if isinstance(answer, Picked) and not answer.indices and answer.repairs:
        return None
    return picked(question, answer)[0]


def picked(question: Pick, answer: Answer) -> tuple[int, ...]:
    """The indices of the documents picked.

    Raises:
        JudgeError: when they are not as many different ones as were asked for, or one was not shown.
    """
    given = answer.indices if isinstance(answer, Picked) else ()
    shown = range(len(question.documents))
    if len(given) != question.count or len(set(given)) != len(given) or any(index not in shown for index in given):
        many = "one index" if question.count == 1 else f"{question.count} different indices"
        raise _mistake(question, answer, f"{many} below {len(shown)}")
    return given


def grades(question: GradeSet, answer: Answer) -> tuple[float, ...]:
    """The scores of a set, one for each of its documents.

    Raises:
        JudgeError: when there are more or fewer.
    """
    if not isinstance(answer, GradedSet) or len(answer.scores) != len(question.documents):
        raise _mistake(question, answer, f"{len(question.documents)} scores")
    return answer.scores


def graded(answers: Sequence[Answer]) -> list[float]:
    """The scores of documents that were graded one by one.

    Raises:
        JudgeError: when one is no grade.
    """
    for answer in answers:
        if not isinstance(answer, Graded):
            raise JudgeError(f"a judge answered a Grade with {answer!r}; it answers with Graded")
    return [answer.score for answer in answers if isinstance(answer, Graded)]


def order(question: Permute, answer: Answer) -> tuple[int, ...]:
    """The indices of all documents, best first.

    Raises:
        JudgeError: when the answer leaves a document out, or names one twice or from elsewhere.
    """
    given = answer.order if isinstance(answer, Permuted) else ()
    if not isinstance(answer, Permuted) or sorted(given) != list(range(len(question.documents))):
        raise _mistake(question, answer, f"each index below {len(question.documents)} once")
    return given


def probability(answer: Answer) -> float | None:
    """P(the first document wins), None when it could not be read.

    Raises:
        JudgeError: when the answer is of another kind.
    """
    if not isinstance(answer, Compared):
        raise JudgeError(f"a judge answered a Compare with {answer!r}; it answers with Compared")
    return answer.probability


def _mistake(question: Question, answer: Answer, expected: str) -> JudgeError:
    what = f"a {type(question).__name__} of query {question.query.query_id!r}"
    return JudgeError(f"{what} was answered with {answer!r}; it must be {expected}")
