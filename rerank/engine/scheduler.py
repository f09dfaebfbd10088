"""The scheduler carries: it runs many plans at once and brings their questions to one judge.

One worker thread does everything, so there is no lock around the work itself; it lives while there is work. It admits
plans, gathers their open questions in fair turns between clients, asks the judge for as many as it is allowed at once,
and hands every answer to the plans that wait for it. A question that was answered before comes from memory or from the
journal; one that is already on its way is asked once for all who want it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType

from rerank.cost import Ledger
from rerank.engine.journal import Journal
from rerank.engine.tasks import Client, Progress, Task
from rerank.errors import DeadlineExceeded, FileError, InputError, JudgeError, RerankError
from rerank.questions import Answer, Judge, Plan, Question, content_key, numbers_of
from rerank.types import Ranking

__all__ = ["Scheduler"]


class Scheduler:
    """Runs plans against a judge. Live: plans may be submitted from any thread at any time.

    Args:
        judge: who answers.
        ledger: where the work is charged; a new one by default.
        journal: the crash-proof record to read from and to append to.
        memory: how many answers are kept for repeated questions; the oldest go first. A journal keeps its own.
        at_once: the most questions handed to the judge in one call. New plans wait for no more than these.

    Use it as a context manager, or call `close`. Answers of cancelled plans that were already asked for are kept. When
    the journal cannot be written, every plan at work fails; the scheduler itself goes on.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        ledger: Ledger | None = None,
        journal: Journal | None = None,
        memory: int = 1_000_000,
        at_once: int = 512,
    ) -> None:
        if at_once < 1 or memory < 0:
            raise InputError(f"at_once={at_once} and memory={memory}; ask at least 1 at once and remember at least 0")
        self.judge = judge
        self.ledger = ledger if ledger is not None else Ledger()
        self._journal = journal
        self._memory_limit = memory
        self._memory: OrderedDict[str, Answer] = OrderedDict()
        self._at_once = at_once
        self._breakdowns = 0
        self._lock = threading.Lock()
        self._inbox: deque[Task] = deque()
        self._closing = self._cancelling = False
        self._worker: threading.Thread | None = None
        self._clients: OrderedDict[Hashable, Client] = OrderedDict()
        self._waiting: dict[str, list[tuple[Task, int]]] = {}

    # -- what callers use, from any thread -----------------------------------------------------------------------

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
            deadline: seconds from now after which the plan fails with `DeadlineExceeded`; looked at between answers.
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
        task = Task(plan, client, None if deadline is None else time.monotonic() + deadline, progress or Progress())
        with self._lock:
            if self._closing:
                raise InputError("the scheduler is closed; make a new one")
            self._inbox.append(task)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="rerank-scheduler", daemon=True)
                self._worker.start()
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
        if threading.current_thread() is self._worker:
            raise InputError("a plan cannot wait for other plans of its own scheduler; yield its questions instead")
        progress = Progress(on_answer)
        futures: list[Future[Ranking]] = []
        try:
            for plan in plans:
                futures.append(self.submit(plan, progress=progress))
            failures = [error for future in futures if (error := future.exception()) is not None]
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
        with self._lock:
            self._closing = True
            self._cancelling = self._cancelling or cancel
            worker = self._worker
        if worker is not None and worker is not threading.current_thread():
            worker.join()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    # -- the worker ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            try:
                while self._admit():
                    if batch := self._take():
                        self._ask(batch)
                return
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
            while self._inbox:
                task = self._inbox.popleft()
                self._clients.setdefault(task.client, Client()).inbox.append(task)
        for client in list(self._clients.values()):
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
            if self._wanted([(key, question)]):
                return key, question
        for task in list(client.tasks):
            self._alive(task)  # lets go of those that are cancelled or late
        return None

    def _alive(self, task: Task) -> bool:
        if task.done:
            return False
        if self._cancelling:
            task.future.cancel()
        if task.future.cancelled():
            self._finish(task)
        elif task.deadline is not None and time.monotonic() > task.deadline:
            self._finish(task, error=DeadlineExceeded(f"{task.name} was not finished before its deadline"))
        return not task.done

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
            if len(batch) == 1 and open_questions:
                self._deliver(*batch[0], error)
                return
            self._breakdowns += 1
            self.ledger.note("judge breakdowns", f"{self._breakdowns}, asked again one by one; the last: {error!r}")
        if len(batch) == 1 and open_questions:
            self._deliver(*batch[0], JudgeError("the judge gave no answer"))
            return
        for entry in open_questions.values():
            if self._wanted([entry]):
                self._ask([entry])

    def _wanted(self, entries: Collection[tuple[str, Question]]) -> bool:
        """Whether anybody still waits for one of these; if nobody does they are forgotten."""
        if any(self._alive(task) for key, _ in entries for task, _ in self._waiting.get(key, ())):
            return True
        for key, _ in entries:
            self._waiting.pop(key, None)
        return False

    def _deliver(self, key: str, question: Question, answer: Answer | Exception) -> None:
        """Hand an answer, or the error in its place, to all who wait for it."""
        if not isinstance(answer, Exception):
            answer = _checked(question, answer)
        if not isinstance(answer, Exception):
            self._keep(key, question, answer)
        waiters = self._waiting.pop(key, [])
        with _fatal():
            if isinstance(answer, Exception):
                error = _about(question, answer)
                for task, _ in waiters:
                    self._finish(task, error=error)
            else:
                for task, slot in waiters:
                    if self._alive(task) and task.fill(slot, answer):
                        self._advance(task)
            if waiters:
                self._report(waiters[0][0].progress)

    def _report(self, progress: Progress) -> None:
        """Say how far these plans are; who cannot be told has his plans fail, and nobody else's."""
        progress.answered += 1
        if progress.on_answer is not None and progress.error is None:
            try:
                progress.on_answer(progress.answered, progress.asked)
            except Exception as error:
                progress.error = error
                for task in [task for client in self._clients.values() for task in [*client.tasks, *client.inbox]]:
                    if task.progress is progress:
                        self._finish(task, error=error)

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
                task.progress.asked += 1
                self._waiting[key] = [(task, slot)]
                self._clients.setdefault(task.client, Client()).open.append((key, question))

    def _recall(self, key: str, question: Question) -> Answer | None:
        if (answer := self._memory.get(key)) is not None:
            self.ledger.charge(question.query.query_id, memory_hits=1)
            return answer
        if self._journal is not None and (answer := self._journal.get(key)) is not None:
            if not isinstance(answer, question.answered_by):
                raise FileError(f"the journal {self._journal.path} answers a {type(question).__name__} with {answer!r}")
            self.ledger.charge(question.query.query_id, journal_hits=1)
            self._remember(key, answer)
            return answer
        return None

    def _finish(self, task: Task, *, ranking: Ranking | None = None, error: BaseException | None = None) -> None:
        """Resolve a task's future, whatever its plan does when it is closed."""
        if task.done:
            return
        task.done = True
        if (client := self._clients.get(task.client)) is not None:
            client.tasks.discard(task)
        if task.future.set_running_or_notify_cancel():
            if ranking is not None:
                task.future.set_result(ranking)
            else:
                task.future.set_exception(error)
        try:
            task.plan.close()
        except Exception as trouble:
            self.ledger.note("a plan could not be closed", f"{task.name}: {trouble!r}")

    def _fail_all(self, error: BaseException) -> None:
        """Fail every plan at work and begin anew with none."""
        with self._lock:
            tasks = list(self._inbox)
            self._inbox.clear()
        for client in self._clients.values():
            tasks += [*client.inbox, *client.tasks]
        self._clients.clear()
        self._waiting.clear()
        for task in tasks:
            self._finish(task, error=error)


class _Fatal(Exception):
    """Carries an error that is not the judge's (the journal's, our own) out of the loop over its answers."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _fatal() -> Iterator[None]:
    try:
        yield
    except _Fatal:
        raise
    except Exception as error:
        raise _Fatal(error) from error


def _checked(question: Question, answer: object) -> Answer | JudgeError:
    """The answer, if it is one to this question."""
    if not isinstance(answer, question.answered_by):
        return JudgeError(f"the judge gave {answer!r}, which is no {question.answered_by.__name__}")
    if not all(math.isfinite(number) for number in numbers_of(answer)):
        return JudgeError(f"the judge gave {answer!r}; its numbers must be finite")
    return answer


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
