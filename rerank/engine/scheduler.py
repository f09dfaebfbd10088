"""The scheduler carries: it runs many plans at once and brings their questions to one judge.

One worker thread does everything, so there is no lock around the work itself; it lives while there is work. It admits
plans, gathers their open questions in fair turns between clients, asks the judge for as many as it is allowed at once,
and hands every answer to the plans that wait for it. A question that was answered before comes from memory or from the
journal; one that is already on its way is asked once for all who want it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType

from rerank.cost import Ledger
from rerank.engine.journal import Journal
from rerank.engine.tasks import Client, Task
from rerank.errors import DeadlineExceeded, InputError, JudgeError, RerankError
from rerank.questions import Answer, Judge, Plan, Question, content_key
from rerank.types import Ranking

__all__ = ["Scheduler"]


class Scheduler:
    """Runs plans against a judge. Live: plans may be submitted from any thread at any time.

    Args:
        judge: who answers.
        ledger: where the work is charged; a new one by default.
        journal: the crash-proof record to read from and to append to.
        memory: how many answers are kept for repeated questions; the oldest go first.
        at_once: the most questions handed to the judge in one call. New plans wait for no more than these.
        on_answer: called after every answer with (questions answered, questions known so far).

    Use it as a context manager, or call `close`. Answers of cancelled plans that were already asked for are kept.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        ledger: Ledger | None = None,
        journal: Journal | None = None,
        memory: int = 1_000_000,
        at_once: int = 512,
        on_answer: Callable[[int, int], None] | None = None,
    ) -> None:
        if at_once < 1 or memory < 0:
            raise InputError(f"at_once={at_once} and memory={memory}; ask at least 1 at once and remember at least 0")
        self.judge = judge
        self.ledger = ledger if ledger is not None else Ledger()
        self._journal = journal
        self._memory_limit = memory
        self._memory: OrderedDict[str, Answer] = OrderedDict()
        self._at_once = at_once
        self.on_answer = on_answer
        self._answered = self._known = self._breakdowns = 0
        self._lock = threading.Lock()
        self._inbox: deque[Task] = deque()
        self._closing = False
        self._worker: threading.Thread | None = None
        self._clients: OrderedDict[Hashable, Client] = OrderedDict()
        self._waiting: dict[str, list[tuple[Task, int]]] = {}

    # -- what callers use, from any thread -----------------------------------------------------------------------

    def submit(self, plan: Plan, *, deadline: float | None = None, client: Hashable = None) -> Future[Ranking]:
        """Start a plan soon and return at once.

        Args:
            plan: an algorithm at work on one query.
            deadline: seconds from now after which the plan fails with `DeadlineExceeded`; looked at between answers.
            client: whose plan it is; clients take turns, question by question.

        Returns:
            A future of the ranking. `future.cancel()` works until the ranking is there.
        """
        if deadline is not None and deadline <= 0:
            raise InputError(f"a deadline of {deadline} seconds has passed already; give more than 0 or None")
        task = Task(plan, client, None if deadline is None else time.monotonic() + deadline)
        with self._lock:
            if self._closing:
                raise InputError("the scheduler is closed; make a new one")
            self._inbox.append(task)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="rerank-scheduler", daemon=True)
                self._worker.start()
        return task.future

    def run(self, plans: Iterable[Plan]) -> list[Ranking]:
        """Submit all, wait for all.

        Raises:
            RerankError: the first failure, after every other plan has been finished.
        """
        futures = [self.submit(plan) for plan in plans]
        try:
            failures = [error for future in futures if (error := future.exception()) is not None]
        except BaseException:  # an interrupt: leave nothing running behind
            for future in futures:
                future.cancel()
            raise
        if failures and len(futures) > 1 and isinstance(failures[0], JudgeError):
            raise JudgeError(
                f"{len(failures)} of {len(futures)} queries failed; the first: {failures[0]}"
            ) from failures[0]
        if failures:
            raise failures[0]
        return [future.result() for future in futures]

    def close(self, *, cancel: bool = False) -> None:
        """Finish (or `cancel`) what was submitted, then stop. The journal is its owner's to close."""
        with self._lock:
            self._closing = True
            if cancel:
                for task in self._inbox:
                    task.future.cancel()
                for client in list(self._clients.values()):
                    for task in [*client.inbox, *client.tasks]:
                        task.future.cancel()
            worker = self._worker
        if worker is not None:
            worker.join()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    # -- the worker ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._admit():
                if batch := self._take():
                    self._ask(batch)
        except _Fatal as fatal:
            self._fail_all(fatal.error)
        except BaseException as error:  # a bug: nobody may wait for ever
            self._fail_all(error)

    def _admit(self) -> bool:
        """Let new plans in, in turns. False when there is nothing left to do, and the worker must end."""
        with self._lock:
            if not self._inbox and not self._clients:
                self._worker = None
                return False
            arrived = list(self._inbox)
            self._inbox.clear()
        for task in arrived:
            client = self._clients.setdefault(task.client, Client())
            client.inbox.append(task)
        for client in self._clients.values():
            # Starting a plan makes its questions; a client needs no more of them open than one call can take.
            while client.inbox and len(client.open) < self._at_once:
                task = client.inbox.popleft()
                client.tasks.add(task)
                self._advance(task)
        return True

    def _take(self) -> list[tuple[str, Question]]:
        """The next questions, one from each client in turn; clients with nothing left are forgotten."""
        batch: list[tuple[str, Question]] = []
        turns = deque(self._clients.values())
        while turns and len(batch) < self._at_once:
            client = turns.popleft()
            if (entry := self._next_wanted(client)) is not None:
                batch.append(entry)
                turns.append(client)
        for name in [name for name, client in self._clients.items() if client.idle]:
            del self._clients[name]
        if self._clients:
            self._clients.move_to_end(next(iter(self._clients)))  # whoever began this time comes last next time
        return batch

    def _next_wanted(self, client: Client) -> tuple[str, Question] | None:
        while client.open:
            key, question = client.open.popleft()
            waiters = [(task, slot) for task, slot in self._waiting.get(key, ()) if self._alive(task)]
            if waiters:
                self._waiting[key] = waiters
                return key, question
            self._waiting.pop(key, None)
        for task in [task for task in client.tasks if not self._alive(task)]:
            client.tasks.discard(task)
        return None

    def _alive(self, task: Task) -> bool:
        if task.done:
            return False
        if task.future.cancelled():
            self._finish(task, error=None)
            return False
        if task.deadline is not None and time.monotonic() > task.deadline:
            self._finish(task, error=DeadlineExceeded(f"query {task.query_id!r} was not finished before its deadline"))
            return False
        return True

    def _ask(self, batch: Sequence[tuple[str, Question]]) -> None:
        """Ask the judge; when it breaks down, ask what is still open once more, one question at a time."""
        open_questions = dict(enumerate(batch))
        try:
            for index, answer in self.judge.answer([question for _, question in batch], self.ledger):
                self._deliver(*open_questions.pop(index), answer)
                if open_questions and not self._wanted(open_questions.values()):
                    return
        except _Fatal:
            raise
        except Exception as error:
            if len(batch) == 1:
                self._deliver(*batch[0], error)
                return
            self._breakdowns += 1
            self.ledger.note("judge breakdowns", f"{self._breakdowns}, asked again one by one; the last: {error!r}")
        if len(batch) == 1 and open_questions:
            self._deliver(*batch[0], JudgeError("the judge gave no answer"))
            return
        for key, question in open_questions.values():
            self._ask([(key, question)])

    def _wanted(self, entries: Collection[tuple[str, Question]]) -> bool:
        """Whether anybody still waits for one of these; if nobody does they are forgotten."""
        if any(self._alive(task) for key, _ in entries for task, _ in self._waiting.get(key, ())):
            return True
        for key, _ in entries:
            self._waiting.pop(key, None)
        return False

    def _deliver(self, key: str, question: Question, answer: Answer | Exception) -> None:
        waiters = self._waiting.pop(key, [])
        if isinstance(answer, Exception):
            error = _about(question, answer)
            for task, _ in waiters:
                self._finish(task, error=error)
        else:
            self._keep(key, question, answer)
            for task, slot in waiters:
                if self._alive(task) and task.fill(slot, answer):
                    self._advance(task)
        self._answered += 1
        if self.on_answer is not None:
            with _fatal():
                self.on_answer(self._answered, self._known)

    def _keep(self, key: str, question: Question, answer: Answer) -> None:
        self._remember(key, answer)
        if answer.repairs:
            self.ledger.charge(question.query.query_id, repairs=len(answer.repairs))
        if self._journal is not None:
            with _fatal():
                self._journal.append(key, answer)

    def _remember(self, key: str, answer: Answer) -> None:
        if self._memory_limit:
            self._memory[key] = answer
            if len(self._memory) > self._memory_limit:
                self._memory.popitem(last=False)

    def _advance(self, task: Task) -> None:
        """Carry a plan on until it waits for an answer, ends, or fails."""
        try:
            while self._alive(task):
                questions = task.step()
                self._open(task, questions)
                if task.missing:
                    return
        except StopIteration as end:
            if isinstance(end.value, Ranking):
                self._finish(task, ranking=end.value)
            else:
                self._finish(task, error=TypeError(f"a plan ended with {end.value!r}; it must return a Ranking"))
        except Exception as error:
            self._finish(task, error=error)

    def _open(self, task: Task, questions: list[Question]) -> None:
        if questions:
            task.query_id = questions[0].query.query_id
            self.ledger.charge(task.query_id, rounds=1, questions=len(questions))
        for slot, question in enumerate(questions):
            if type(question) not in self.judge.answers:
                raise InputError(_cannot(self.judge, question))
            key = content_key(self.judge, question)
            if (answer := self._recall(key, question)) is not None:
                task.fill(slot, answer)
            elif key in self._waiting:
                self.ledger.charge(question.query.query_id, memory_hits=1)
                self._waiting[key].append((task, slot))
            else:
                self._known += 1
                self._waiting[key] = [(task, slot)]
                self._clients.setdefault(task.client, Client()).open.append((key, question))

    def _recall(self, key: str, question: Question) -> Answer | None:
        if (answer := self._memory.get(key)) is not None:
            self.ledger.charge(question.query.query_id, memory_hits=1)
            return answer
        if self._journal is not None and (answer := self._journal.get(key)) is not None:
            self.ledger.charge(question.query.query_id, journal_hits=1)
            self._remember(key, answer)
            return answer
        return None

    def _finish(self, task: Task, *, ranking: Ranking | None = None, error: BaseException | None = None) -> None:
        if task.done:
            return
        task.done = True
        task.plan.close()
        if (client := self._clients.get(task.client)) is not None:
            client.tasks.discard(task)
        if not task.future.set_running_or_notify_cancel():
            return
        if ranking is not None:
            task.future.set_result(ranking)
        else:
            task.future.set_exception(error)

    def _fail_all(self, error: BaseException) -> None:
        with self._lock:
            self._closing = True
            tasks = list(self._inbox)
            self._inbox.clear()
        for client in self._clients.values():
            tasks += [*client.inbox, *client.tasks]
        for task in tasks:
            self._finish(task, error=error)


class _Fatal(Exception):
    """Carries an error that is not the judge's (of the journal, of a callback) out of the loop over its answers."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _fatal() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _Fatal(error) from error


def _about(question: Question, error: Exception) -> Exception:
    """The error, with the question that it is about."""
    shown = ", ".join(repr(document.doc_id) for document in question.documents[:3])
    more = f" and {len(question.documents) - 3} more" if len(question.documents) > 3 else ""
    what = f"{type(question).__name__} of query {question.query.query_id!r} and {shown}{more}"
    reason = str(error) if isinstance(error, RerankError) else f"{type(error).__name__}: {error}"
    named = JudgeError(f"{what}: {reason}")
    named.__cause__ = error
    return named


def _cannot(judge: Judge, question: Question) -> str:
    able = ", ".join(sorted(kind.__name__ for kind in judge.answers)) or "nothing"
    return f"{type(judge).__name__} answers {able}, not {type(question).__name__}; choose another algorithm or judge"
