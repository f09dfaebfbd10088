"""Plans played by hand, without a scheduler, so that every question is seen; and no deadline for a busy machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from rerank.cost import Ledger
from rerank.questions import Announce, Heard, Judge, Plan, Question
from rerank.types import Document, Query, Ranking

settings.register_profile("no deadline", deadline=None)  # an example may wait for a core; pytest has a timeout
settings.load_profile("no deadline")

Played = tuple[Ranking, list[list[Question]]]


@pytest.fixture(scope="session")
def play() -> Callable[[Plan, Judge], Played]:
    """(plan, judge) -> the ranking, and the questions of every round, announcements left out."""

    def played(plan: Plan, judge: Judge) -> Played:
        rounds: list[list[Question]] = []
        answers = None
        while True:
            try:
                questions = next(plan) if answers is None else plan.send(answers)
            except StopIteration as end:
                return end.value, rounds
            asked = [question for question in questions if not isinstance(question, Announce)]
            given = iter(answer for _, answer in sorted(dict(judge.answer(asked, Ledger())).items()))
            answers = [Heard() if isinstance(question, Announce) else next(given) for question in questions]
            if asked:
                rounds.append(asked)

    return played


@pytest.fixture(scope="session")
def listed() -> Callable[..., Ranking]:
    """(number of documents, query_id) -> documents "0", "1", … in this order, none of them scored."""

    def ranking(count: int, query_id: str = "query") -> Ranking:
        documents = [Document(str(index), f"text {index} for {query_id}") for index in range(count)]
        return Ranking.unscored(Query(query_id, f"words of {query_id}"), documents)

    return ranking
