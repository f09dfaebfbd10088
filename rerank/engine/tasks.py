"""What the scheduler keeps of each client, of each plan at work, and of plans that report together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from rerank.questions import Answer, Plan, Question
from rerank.types import Ranking

__all__ = ["Client", "Progress", "Task"]


class Client:
    """What one client wants: plans not yet begun, plans at work, questions not yet asked."""

    def __init__(self) -> None:
        self.inbox: deque[Task] = deque()
        self.tasks: set[Task] = set()
        self.open: deque[tuple[str, Question]] = deque()

    @property
    def idle(self) -> bool:
        """Nothing begun, nothing to begin."""
        return not (self.inbox or self.tasks or self.open)


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
    """A plan, the answers it waits for, and the future of its ranking."""

    def __init__(self, plan: Plan, client: Hashable, deadline: float | None, progress: Progress) -> None:
        self.plan = plan
        self.client = client
        self.deadline = deadline
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
        """Give the plan its answers and receive its next questions."""
        if self._answers is None:
            questions = next(self.plan)
        else:
            questions = self.plan.send([answer for answer in self._answers if answer is not None])
        self._answers = [None] * len(questions)
        self.missing = len(questions)
        return questions

    def fill(self, slot: int, answer: Answer) -> bool:
        """Note an answer; True when it was the last one missing."""
        assert self._answers is not None
        self._answers[slot] = answer
        self.missing -= 1
        return self.missing == 0
