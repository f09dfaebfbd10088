"""The scheduler's one thread. It lives while there is work, and all but waiting for hosted judges happens in it."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future

from rerank.cost import Ledger
from rerank.engine.scheduling.asking import Concurrent, InProcess, concurrency
from rerank.engine.scheduling.delivery import Delivery, Fatal
from rerank.engine.scheduling.memory import Memory
from rerank.engine.scheduling.retries import Retries, Retry
from rerank.engine.scheduling.tasks import Entry, Task
from rerank.engine.scheduling.turns import Turns
from rerank.errors import InputError
from rerank.questions import Judge
from rerank.types import Ranking

__all__ = ["Worker"]

LONGEST_WAIT = 3600.0
"""Seconds; a deadline may be infinite, a wait may not."""


class Worker:
    """Lets plans begin, asks, waits, and hands on.

    Args:
        judge: who answers.
        ledger: where the work is charged.
        memory: what was answered before.
        at_once: the most questions with the judge; fewer where the judge declares so.
        retry: how a question is asked again.
        lingers: the thread waits for more when there is nothing to do, until the worker is closed.
    """

    def __init__(
        self, judge: Judge, ledger: Ledger, memory: Memory, at_once: int, retry: Retry, *, lingers: bool = False
    ) -> None:
        self._lingers = lingers
        at_once = min(at_once, concurrency(judge) or at_once)
        self._turns = Turns(at_once)
        self._delivery = Delivery(judge, ledger, memory, self._turns)
        self._retries = Retries(retry, ledger)
        self._wake = threading.Event()
        way = InProcess if concurrency(judge) is None else Concurrent
        self._asking = way(judge, ledger, self._delivery, self._retries, at_once, self._wake.set)
        self._lock = threading.Lock()
        self._inbox: deque[Task] = deque()
        self._closing = False
        self._thread: threading.Thread | None = None

    # -- from any thread -----------------------------------------------------------------------------------------

    @property
    def is_current(self) -> bool:
        """Whether it is asked in its own thread."""
        return threading.current_thread() is self._thread

    def submit(self, task: Task) -> None:
        """Begin a plan soon.

        Raises:
            InputError: when the worker is closed.
        """
        task.future.add_done_callback(self._notice)
        with self._lock:
            if self._closing:
                raise InputError("the scheduler is closed; make a new one")
            self._inbox.append(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="rerank-scheduler", daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self, *, cancel: bool) -> None:
        """Finish or cancel what was submitted, then end."""
        with self._lock:
            self._closing = True
            self._delivery.cancelling = self._delivery.cancelling or cancel
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _notice(self, future: Future[Ranking]) -> None:
        """A future is done; where a caller cancelled it, the thread must look."""
        if future.cancelled():
            self._delivery.cancelled = True
            self._wake.set()

    # -- its own thread ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            try:
                while self._admit():
                    entries = self._next(self._asking.room)
                    self._asking.ask(entries)
                    if (self._asking.in_flight or not entries) and not self._turns.ready:
                        self._wait()
                return
            except Fatal as fatal:
                self._fail_all(fatal.error)
            except BaseException as error:  # a bug: nobody may wait for ever
                self._fail_all(error)

    def _admit(self) -> bool:
        """Let plans in, and go. False when there is nothing left to do, and the thread must end."""
        with self._lock:
            while self._inbox:
                task = self._inbox.popleft()
                self._turns.add(task)
                self._delivery.watch(task)
            if not self._turns and (self._closing or not (self._asking.in_flight or self._lingers)):
                self._asking.stop()
                self._thread = None
                return False
        self._delivery.sweep()
        for task in self._turns.begin():
            self._delivery.advance(task)
        return True

    def _next(self, room: int) -> list[Entry]:
        """What is to be asked now: first what waited to be asked again, then what is new."""
        again = [entry for entry in self._retries.due(room) if self._wanted(entry)]
        return again + self._turns.take(room - len(again), self._wanted)

    def _wanted(self, entry: Entry) -> bool:
        return self._delivery.wanted([entry])

    def _wait(self) -> None:
        """Until an answer comes, a plan is submitted or cancelled, or the time of something has come."""
        if self._turns or self._asking.in_flight or self._lingers:
            times = [self._delivery.next_deadline, self._retries.next_due]
            first = min((due for due in times if due is not None), default=None)
            self._wake.wait(None if first is None else min(LONGEST_WAIT, max(0.0, first - time.monotonic())))
        self._wake.clear()
        self._asking.collect()

    def _fail_all(self, error: BaseException) -> None:
        """Fail every plan at work and begin anew with none."""
        with self._lock:
            tasks = [*self._inbox, *self._turns.tasks]
            self._inbox.clear()
        self._turns.clear()
        self._delivery.forget()
        self._retries.clear()
        for task in tasks:
            self._delivery.finish(task, error=error)
