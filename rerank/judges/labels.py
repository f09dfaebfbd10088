"""Logits of the labels that documents of a list go by: exact over all of them, nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rerank.errors import InputError
from rerank.judges.bills import Asked, Work
from rerank.judges.prompted import PromptedJudge
from rerank.judges.target_words import target_ids
from rerank.prompts.prompt import identifiers
from rerank.questions import Question

__all__ = ["Labels"]


class Labels:
    """The labels of one judge's prompt as tokens. Those that are several tokens (T5's X and Y) are refused.

    Args:
        judge: whose prompt names documents by them.
    """

    def __init__(self, judge: PromptedJudge) -> None:
        self.judge = judge
        self.tokens = lru_cache(maxsize=64)(self._tokens)
        self.tokens(2)  # what can be known at load is known at load

    def check(self, question: Question) -> None:
        """Refuse more documents than there are labels of one token."""
        self.tokens(len(question.documents))

    def scores(self, asked: Sequence[Asked]) -> tuple[list[tuple[float, ...]], Work]:
        """The log-probability of each label among the labels, for each question."""
        targets = [self.tokens(len(each.question.documents)) for each in asked]
        logits, work = self.judge.model.logits([each.prompt for each in asked], targets)
        return [tuple(row.double().log_softmax(0).tolist()) for row in logits], work

    def _tokens(self, count: int) -> tuple[int, ...]:
        names = identifiers(self.judge.prompt.identifiers, count)
        try:
            return target_ids(self.judge.tokenizer, names, behind=self.judge.tail)
        except InputError as error:
            raise InputError(f"{count} documents cannot be told apart by one token each: {error}") from error
