"""What was answered before: the latest answers in memory, and all of them in a journal where there is one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from rerank.cost import Ledger
from rerank.engine.journal import Journal
from rerank.errors import FileError
from rerank.questions import Answer, Question

__all__ = ["Memory"]


class Memory:
    """Answers by `content_key`.

    Args:
        limit: how many are kept; the oldest go first.
        journal: keeps its own.
        ledger: where what is found again is counted.
    """

    def __init__(self, limit: int, journal: Journal | None, ledger: Ledger) -> None:
        self._limit, self._journal, self._ledger = limit, journal, ledger
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def recall(self, key: str, question: Question) -> Answer | None:
        """The answer of before, or None.

        Raises:
            FileError: when the journal has an answer to another kind of question.
        """
        if (answer := self._answers.get(key)) is not None:
            self._ledger.charge(question.query.query_id, memory_hits=1)
            return answer
        if self._journal is not None and (found := self._journal.find(key)) is not None:
            answer = found.answer
            if not isinstance(answer, question.answered_by):
                raise FileError(f"the journal {self._journal.path} answers a {type(question).__name__} with {answer!r}")
            self._ledger.charge(question.query.query_id, journal_hits=1)
            if found.cost is not None:
                self._ledger.recall(question.query.query_id, questions=1, **found.cost)
            self._remember(key, answer)
            return answer
        return None

    def keep(self, key: str, question: Question, answer: Answer, cost: Mapping[str, float]) -> None:
        """Note a new answer, and what it cost.

        Raises:
            FileError: when the journal cannot be written.
        """
        self._remember(key, answer)
        repairs = {"repairs": len(answer.repairs)} if answer.repairs else {}
        if repairs:
            self._ledger.charge(question.query.query_id, **repairs)
        if self._journal is not None:
            self._journal.append(key, answer, {**cost, **repairs})

    def _remember(self, key: str, answer: Answer) -> None:
        if self._limit:
            self._answers[key] = answer
            if len(self._answers) > self._limit:
                self._answers.popitem(last=False)
