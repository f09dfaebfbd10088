"""Two ways of asking a judge: many questions in one call, or one question in each of several calls at once.

A model in this process is handed as many questions as it may have, in the worker's own thread: it is busy with them
anyway, and what a plan asks next joins the next call. A judge that declares `concurrent` waits for somebody else. It
is asked from so many threads, one question each, and whenever one is answered the next one goes out, however long the
others take.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from rerank.cost import Ledger
from rerank.engine.scheduling.charges import Charges
from rerank.engine.scheduling.delivery import Delivery, Fatal
from rerank.engine.scheduling.retries import Retries
from rerank.engine.scheduling.tasks import Entry
from rerank.errors import InputError, JudgeError, Transient
from rerank.questions import Answer, Judge

__all__ = ["Asking", "Concurrent", "InProcess", "concurrency"]

Todo: TypeAlias = "SimpleQueue[Entry | None]"


def concurrency(judge: Judge) -> int | None:
    """How many questions a judge wants at once, each in a call of its own; None when it wants them together.

    Raises:
        InputError: when it declares what is no number of questions.
    """
    count = getattr(judge, "concurrent", None)
    if count is not None and not (type(count) is int and count >= 1):
        raise InputError(f"{type(judge).__name__}.concurrent is {count!r}; it is a number of questions, 1 or more")
    return count


class Asking:
    """What both ways do with an answer.

    Args:
        judge: who is asked.
        ledger: its bill.
        delivery: who gets the answers.
        retries: where questions wait that failed in passing.
        at_once: the most questions with the judge.
        wake: called from any thread when there is something to `collect`.

    Attributes:
        in_flight: questions that were asked and are not answered.
    """

    def __init__(
        self,
        judge: Judge,
        ledger: Ledger,
        delivery: Delivery,
        retries: Retries,
        at_once: int,
        wake: Callable[[], None],
    ) -> None:
        self._judge, self._ledger, self._delivery, self._retries = judge, ledger, delivery, retries
        self._bill = Charges(ledger)
        self._at_once, self._wake = at_once, wake
        self.in_flight = 0

    @property
    def room(self) -> int:
        """How many questions the judge may be asked now."""
        return 0 if self._retries.paused else self._at_once - self.in_flight

    def ask(self, entries: Sequence[Entry]) -> None:
        """Put questions to the judge."""
        raise NotImplementedError

    def collect(self) -> None:
        """Hand on what was answered since."""

    def stop(self) -> None:
        """Let go of what it holds; it may be asked again."""

    def _settle(self, entry: Entry, answer: Answer | Exception, *, last: bool = True) -> None:
        """Hand on an answer; `last`: the call has no further question of its query."""
        if isinstance(answer, Transient) and not entry.announces:
            entry.tries += 1
            if (given_up := self._retries.add(entry, answer)) is None:
                return
            given_up.__cause__, answer = answer, given_up
        failed = isinstance(answer, Exception) or entry.announces
        cost = {} if failed else self._bill.take(entry.question.query.query_id, last=last)
        self._delivery.deliver(entry, answer, cost)


class InProcess(Asking):
    """Asks in the worker's thread, and is done when it returns."""

    _breakdowns = 0

    def ask(self, entries: Sequence[Entry]) -> None:
        """Ask in one call; when the judge breaks down, ask what is still open once more, one question at a time."""
        if not entries:
            return
        left = dict(enumerate(entries))
        error = self._answered(entries, left)
        for entry in [entry for entry in left.values() if not entry.announces]:
            if isinstance(error, Transient) or len(entries) == 1:
                self._settle(entry, error or JudgeError("the judge gave no answer"))
            elif self._delivery.wanted([entry]):
                self.ask([entry])

    def _answered(self, entries: Sequence[Entry], left: dict[int, Entry]) -> Exception | None:
        """Hand on the answers, and leave in `left` what was not answered; the error with which the judge broke down."""
        open_of = Counter(entry.question.query.query_id for entry in entries if not entry.announces)
        try:
            for index, answer in self._judge.answer([entry.question for entry in entries], self._bill):
                entry = left.pop(index)
                open_of[entry.question.query.query_id] -= not entry.announces
                self._settle(entry, answer, last=not open_of[entry.question.query.query_id])
                if left and not self._delivery.wanted(left.values()):
                    left.clear()
                    return None
        except Fatal:
            raise
        except Exception as error:
            if len(entries) > 1 and not isinstance(error, Transient):
                self._breakdowns += 1
                said = f"{self._breakdowns}, asked again one by one; the last: {error!r}"
                self._ledger.note("judge breakdowns", said)
            return error
        return None


class Concurrent(Asking):
    """Asks from several threads; they live from the first question to `stop`."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._todo: Todo = SimpleQueue()
        self._done: SimpleQueue[tuple[Entry, Answer | Exception]] = SimpleQueue()
        self._threads = 0

    def ask(self, entries: Sequence[Entry]) -> None:
        """Send questions out, and return at once."""
        for entry in entries:
            self.in_flight += 1
            self._todo.put(entry)
            if self._threads < min(self.in_flight, self._at_once):
                self._threads += 1
                threading.Thread(target=self._serve, args=(self._todo,), name="rerank-judge", daemon=True).start()

    def collect(self) -> None:
        """Hand on what was answered since."""
        while True:
            try:
                entry, answer = self._done.get_nowait()
            except Empty:
                return
            self.in_flight -= 1
            self._settle(entry, answer)

    def stop(self) -> None:
        """Send the threads home; one that still waits for an answer goes when it has it."""
        for _ in range(self._threads):
            self._todo.put(None)
        self._threads, self._todo = 0, SimpleQueue()  # its own queue: what those threads leave is not for later ones

    def _serve(self, todo: Todo) -> None:
        while (entry := todo.get()) is not None:
            self._done.put((entry, self._answer(entry)))
            self._wake()

    def _answer(self, entry: Entry) -> Answer | Exception:
        try:
            answers = dict(self._judge.answer([entry.question], self._bill))
        except Exception as error:
            return error
        except BaseException as error:  # nothing may end this thread, or its question would never come back
            return JudgeError(f"the judge broke off: {error!r}")
        return answers.get(0, JudgeError("the judge gave no answer"))
