"""Answers held against their questions, and errors that name them."""

from __future__ import annotations

import math

from rerank.errors import JudgeError, RerankError
from rerank.questions import Answer, Judge, Question, numbers_of

__all__ = ["about", "cannot", "checked"]


def checked(question: Question, answer: object) -> Answer | JudgeError:
    """The answer, if it is one to this question."""
    if not isinstance(answer, question.answered_by):
        return JudgeError(f"the judge gave {answer!r}, which is no {question.answered_by.__name__}")
    if not all(math.isfinite(number) for number in numbers_of(answer)):
        return JudgeError(f"the judge gave {answer!r}; its numbers must be finite")
    return answer


def about(question: Question, error: Exception) -> Exception:
    """The error, with the question that it is about."""
    shown = ", ".join(repr(document.doc_id) for document in question.documents[:3])
    more = f" and {len(question.documents) - 3} more" if len(question.documents) > 3 else ""
    what = f"{type(question).__name__} of query {question.query.query_id!r} and {shown}{more}"
    reason = str(error) if isinstance(error, RerankError) else f"{type(error).__name__}: {error}"
    named = JudgeError(f"{what}: {reason}")
    named.__cause__ = error
    return named


def cannot(judge: Judge, question: Question) -> str:
    """What to say of a kind of question that a judge does not answer."""
    able = ", ".join(sorted(kind.__name__ for kind in judge.answers)) or "nothing"
    return f"{type(judge).__name__} answers {able}, not {type(question).__name__}; choose another algorithm or judge"
