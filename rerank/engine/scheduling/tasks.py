"""What the scheduler keeps of each plan at work, of each question on its way, and of plans that report together."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass

from rerank.questions import Announce, Answer, Heard, Plan, Question
from rerank.types import Ranking

__all__ = ["Entry", "Progress", "Task"]


class Progress:
    """How many questions some plans have put to the judge, and how many of them are answered.

    Args:
        on_answer: called with (answered, asked) after every answer.
    """

    def __init__(self, on_answer: Callable[[int, int], None] | None = None) -> None:
        self.on_answer = on_answer
        self.answered = self.asked = 0
        self.error: Exception | None = None


class Task:
    """A plan, the answers it waits for, and the future of its ranking.

    Args:
        plan: an algorithm at work on one query.
        client: whose it is.
        deadline: seconds from now, or None.
        progress: counts its answers.
    """

    def __init__(self, plan: Plan, client: Hashable, deadline: float | None, progress: Progress) -> None:
        self.plan = plan
        self.client = client
        self.submitted = time.monotonic()
        self.deadline = None if deadline is None else self.submitted + deadline
        self.progress = progress
        self.future: Future[Ranking] = Future()
        self.done = False
        self.query_id = ""
        self.missing = 0
        self._answers: list[Answer | None] | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"query {self.query_id!r}" if self.query_id else "a plan that had not begun"

    def step(self) -> list[Question]:
        """Give the plan its answers and receive its next questions; what it announces needs no answer."""
        if self._answers is None:
            questions = next(self.plan)
        else:
            questions = self.plan.send([answer for answer in self._answers if answer is not None])
        self._answers = [Heard() if isinstance(question, Announce) else None for question in questions]
        self.missing = self._answers.count(None)
        return questions

    def fill(self, slot: int, answer: Answer) -> bool:
        """Note an answer; True when it was the last one missing."""
        assert self._answers is not None
        self._answers[slot] = answer
        self.missing -= 1
        return self.missing == 0


@dataclass(eq=False, slots=True)
class Entry:
    """A question on its way to the judge.

    Attributes:
        key: what makes it the same as another; empty for an announcement.
        task: the plan that asked it first; others may wait for it too.
        tries: how often the judge was asked.
    """

    key: str
    question: Question
    task: Task
    tries: int = 0

    @property
    def announces(self) -> bool:
        """Whether nobody waits for an answer."""
        return isinstance(self.question, Announce)
