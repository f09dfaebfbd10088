"""The scheduler carries: it runs many plans at once and brings their questions to one judge.

Behind it stands a `worker`, one thread. `turns` lets plans begin and questions go in fair turns, `asking` puts them to
the judge, `delivery` hands every answer to the plans that wait for it and carries them on, `memory` and `journal` know
what was answered before, and `retries` keeps what failed in passing until its time comes. A question that is already
on its way is asked once for all who want it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from types import TracebackType

from rerank.cost import Ledger
from rerank.engine.journal import Journal
from rerank.engine.scheduling.memory import Memory
from rerank.engine.scheduling.retries import Retry
from rerank.engine.scheduling.tasks import Progress, Task
from rerank.engine.scheduling.worker import Worker
from rerank.errors import InputError, JudgeError
from rerank.questions import Judge, Plan
from rerank.types import Ranking

__all__ = ["Scheduler"]


class Scheduler:
    """Runs plans against a judge. Live: plans may be submitted from any thread at any time.

    Args:
        judge: who answers. One that has `concurrent`, a number, is asked from so many threads, one question each; any
            other is handed many questions in one call.
        ledger: where the work is charged; a new one by default.
        journal: the crash-proof record to read from and to append to.
        memory: how many answers are kept for repeated questions; the oldest go first. A journal keeps its own.
        at_once: the most questions handed to the judge in one call. New plans wait for no more than these.
        lingers: one thread from the first plan to `close`, for servers: what libraries keep for every thread that
            computes is otherwise made anew after each pause, and some of it never freed.
        retry: how a question is asked again after a `Transient` error; by default as the judge's `retry` says, if it
            has one.

    Use it as a context manager, or call `close`. Answers of cancelled plans that were already asked for are kept, but
    `close` does not wait for them. When the journal cannot be written, every plan at work fails; the scheduler itself
    goes on.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        ledger: Ledger | None = None,
        journal: Journal | None = None,
        memory: int = 1_000_000,
        at_once: int = 512,
        lingers: bool = False,
        retry: Retry | None = None,
    ) -> None:
        if at_once < 1 or memory < 0:
            raise InputError(f"at_once={at_once} and memory={memory}; ask at least 1 at once and remember at least 0")
        self.judge = judge
        self.ledger = ledger if ledger is not None else Ledger()
        retry = retry or getattr(judge, "retry", None) or Retry()
        kept = Memory(memory, journal, self.ledger)
        self._worker = Worker(judge, self.ledger, kept, at_once, retry, lingers=lingers)

    def submit(
        self,
        plan: Plan,
        *,
        deadline: float | None = None,
        client: Hashable = None,
        progress: Progress | None = None,
    ) -> Future[Ranking]:
        """Start a plan soon and return at once.

        Args:
            plan: an algorithm at work on one query.
            deadline: seconds from now after which the plan fails with `DeadlineExceeded`; looked at between answers,
                and while a hosted judge is waited for.
            client: whose plan it is; clients take turns, question by question.
            progress: counts the answers of this plan and of others that share it.

        Returns:
            A future of the ranking. `future.cancel()` works until the ranking is there.

        Raises:
            InputError: when the plan is no generator, the deadline has passed, or the scheduler is closed.
        """
        if not (hasattr(plan, "send") and hasattr(plan, "close")):
            raise InputError(f"{plan!r} is no plan; call an algorithm, a generator function, with a ranking")
        if deadline is not None and not deadline > 0:
            raise InputError(f"a deadline of {deadline} seconds has passed already; give more than 0 or None")
        hash(client)
        task = Task(plan, client, deadline, progress or Progress())
        self._worker.submit(task)
        return task.future

    def run(self, plans: Iterable[Plan], *, on_answer: Callable[[int, int], None] | None = None) -> list[Ranking]:
        """Submit all, wait for all.

        Args:
            plans: algorithms at work, one for each query.
            on_answer: called after every answer with how many questions of these plans were answered, and how many
                they have put to the judge so far; an error in it fails these plans.

        Raises:
            RerankError: the first failure, after every other plan has been finished.
        """
        if self._worker.is_current:
            raise InputError("a plan cannot wait for other plans of its own scheduler; yield its questions instead")
        progress = Progress(on_answer)
        futures: list[Future[Ranking]] = []
        try:
            for plan in plans:
                futures.append(self.submit(plan, progress=progress))
            failures = [error for future in futures if (error := _outcome(future)) is not None]
        except BaseException:  # an interrupt: leave nothing running behind
            for future in futures:
                future.cancel()
            raise
        if failures and len(futures) > 1 and isinstance(failures[0], JudgeError):
            said = f"{len(failures)} of {len(futures)} queries failed; the first: {failures[0]}"
            raise JudgeError(said) from failures[0]
        if failures:
            raise failures[0]
        return [future.result() for future in futures]

    def close(self, *, cancel: bool = False) -> None:
        """Finish (or `cancel`) what was submitted, then stop. The journal is its owner's to close."""
        self._worker.close(cancel=cancel)

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)


TURN = 0.5
"""Seconds of a wait after which Python looks whether a signal has come."""


def _outcome(future: Future[Ranking]) -> BaseException | None:
    """Wait until a plan is done: its error, or None.

    A wait without an end would not notice Ctrl-C before the plan is done where another thread received the signal, or
    where it came just before the wait began.
    """
    while True:
        try:
            return future.exception(timeout=TURN)
        except TimeoutError:
            continue
