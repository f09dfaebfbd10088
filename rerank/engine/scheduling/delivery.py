"""Carries plans on: opens their questions, hands every answer to all who wait for it, and ends them.

Everything here happens in the worker's thread.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from rerank.cost import Ledger
from rerank.engine.scheduling.answers import about, cannot, checked
from rerank.engine.scheduling.memory import Memory
from rerank.engine.scheduling.tasks import Entry, Progress, Task
from rerank.engine.scheduling.turns import Turns
from rerank.errors import DeadlineExceeded, InputError
from rerank.questions import Announce, Answer, Judge, Question, content_key
from rerank.types import Ranking

__all__ = ["Delivery", "Fatal"]


class Delivery:
    """Who waits for what.

    Attributes:
        cancelling: set it to have every plan cancelled.
        cancelled: set it when a future was cancelled, to have it noticed at the next `sweep`.
    """

    def __init__(self, judge: Judge, ledger: Ledger, memory: Memory, turns: Turns) -> None:
        self.cancelling = self.cancelled = False
        self._judge, self._ledger, self._memory, self._turns = judge, ledger, memory, turns
        self._waiting: dict[str, list[tuple[Task, int]]] = {}
        self._deadlines: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()  # so that no two deadlines are equal, and tasks are never compared

    # -- plans ---------------------------------------------------------------------------------------------------

    def watch(self, task: Task) -> None:
        """See to it that a plan ends at its deadline."""
        if task.deadline is not None:
            heapq.heappush(self._deadlines, (task.deadline, next(self._numbers), task))

    @property
    def next_deadline(self) -> float | None:
        """By the monotonic clock."""
        while self._deadlines and self._deadlines[0][2].done:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def sweep(self) -> None:
        """Let go of plans that are late or cancelled."""
        while self._deadlines and self._deadlines[0][0] < time.monotonic():
            self.alive(heapq.heappop(self._deadlines)[2])
        if self.cancelled or self.cancelling:
            self.cancelled = False
            for task in self._turns.tasks:
                self.alive(task)

    def alive(self, task: Task) -> bool:
        """Whether a plan is still at work; one that is cancelled or late is let go of."""
        if task.done:
            return False
        if self.cancelling:
            task.future.cancel()
        if task.future.cancelled():
            self.finish(task)
        elif task.deadline is not None and time.monotonic() > task.deadline:
            self.finish(task, error=DeadlineExceeded(f"{task.name} was not finished before its deadline"))
        return not task.done

    def advance(self, task: Task) -> None:
        """Carry a plan on until it waits for an answer, ends, or fails."""
        try:
            while self.alive(task):
                self._open(task, task.step())
                if task.missing:
                    return
        except StopIteration as end:
            if isinstance(end.value, Ranking):
                self._ledger.finish(end.value.query.query_id, time.monotonic() - task.submitted)
                self.finish(task, ranking=end.value)
            else:
                self.finish(task, error=TypeError(f"a plan ended with {end.value!r}; it must return a Ranking"))
        except Exception as error:
            self.finish(task, error=error)

    def finish(self, task: Task, *, ranking: Ranking | None = None, error: BaseException | None = None) -> None:
        """Resolve a task's future, whatever its plan does when it is closed."""
        if task.done:
            return
        task.done = True
        self._turns.end(task)
        if task.future.set_running_or_notify_cancel():
            if ranking is not None:
                task.future.set_result(ranking)
            else:
                task.future.set_exception(error)
        try:
            task.plan.close()
        except Exception as trouble:
            self._ledger.note("a plan could not be closed", f"{task.name}: {trouble!r}")

    # -- questions -----------------------------------------------------------------------------------------------

    def wanted(self, entries: Collection[Entry]) -> bool:
        """Whether anybody still waits for one of these; if nobody does they are forgotten."""
        if any(self._is_wanted(entry) for entry in entries):
            return True
        for entry in entries:
            self._waiting.pop(entry.key, None)
        return False

    def deliver(self, entry: Entry, answer: Answer | Exception, cost: Mapping[str, float]) -> None:
        """Hand an answer, or the error in its place, to all who wait for it; the journal keeps what it cost."""
        if entry.announces:
            return
        if not isinstance(answer, Exception):
            answer = checked(entry.question, answer)
        with _fatal():
            waiters = self._waiting.pop(entry.key, [])
            if isinstance(answer, Exception):
                error = about(entry.question, answer)
                for task, _ in waiters:
                    self.finish(task, error=error)
            else:
                self._memory.keep(entry.key, entry.question, answer, cost)
                for task, slot in waiters:
                    if self.alive(task) and task.fill(slot, answer):
                        self.advance(task)
            if waiters:
                self._report(waiters[0][0].progress)

    def forget(self) -> None:
        """Nobody waits for anything any more."""
        self._waiting.clear()
        self._deadlines.clear()

    def _is_wanted(self, entry: Entry) -> bool:
        if entry.announces:
            return self.alive(entry.task)
        return any(self.alive(task) for task, _ in self._waiting.get(entry.key, ()))

    def _open(self, task: Task, questions: list[Question]) -> None:
        asked = len(questions) - sum(isinstance(question, Announce) for question in questions)
        if asked:
            task.query_id = questions[0].query.query_id
            self._ledger.charge(task.query_id, rounds=1, questions=asked)
        entries: list[Entry] = []
        for slot, question in enumerate(questions):
            if isinstance(question, Announce):
                if Announce in self._judge.answers:
                    entries.append(Entry("", question, task))
            elif (entry := self._wait_for(task, slot, question)) is not None:
                entries.append(entry)
        self._turns.open(task, entries)

    def _wait_for(self, task: Task, slot: int, question: Question) -> Entry | None:
        """What must be asked of the judge; None when it is known, or on its way already."""
        if type(question) not in self._judge.answers:
            raise InputError(cannot(self._judge, question))
        key = content_key(self._judge, question)
        if (answer := self._memory.recall(key, question)) is not None:
            task.fill(slot, answer)
            return None
        if key in self._waiting:
            self._ledger.charge(question.query.query_id, memory_hits=1)
            self._waiting[key].append((task, slot))
            return None
        task.progress.asked += 1
        self._waiting[key] = [(task, slot)]
        return Entry(key, question, task)

    def _report(self, progress: Progress) -> None:
        """Say how far these plans are; who cannot be told has his plans fail, and nobody else's."""
        progress.answered += 1
        if progress.on_answer is not None and progress.error is None:
            try:
                progress.on_answer(progress.answered, progress.asked)
            except Exception as error:
                progress.error = error
                for task in self._turns.tasks:
                    if task.progress is progress:
                        self.finish(task, error=error)


class Fatal(Exception):
    """Carries an error that is not the judge's (the journal's, our own) out of the loop over its answers."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _fatal() -> Iterator[None]:
    try:
        yield
    except Fatal:
        raise
    except Exception as error:
        raise Fatal(error) from error
