"""Judges that somebody else computes: several questions in flight, retries that wait, nobody held up by the slow."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from rerank.algorithms.pointwise import pointwise
from rerank.algorithms.windows import sliding_windows
from rerank.cost import Ledger
from rerank.engine.journal import Journal
from rerank.engine.scheduler import Scheduler
from rerank.engine.scheduling.retries import Retry
from rerank.errors import DeadlineExceeded, FileError, InputError, JudgeError, Transient
from rerank.questions import Announce, Grade, Graded, Permute, Permuted

QUICK = Retry(first=0.002, longest=0.01)


class Hosted:
    """A judge that waits for others: `give` is called in its threads, and may sleep, wait or raise."""

    key, answers, reads_ids = "hosted", frozenset({Grade}), True

    def __init__(self, give=lambda question: Graded(1.0), concurrent=4):
        self.give, self.concurrent = give, concurrent
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.times: list[float] = []
        self.busy = self.most_busy = 0

    def answer(self, questions, bill):
        [question] = questions
        with self.lock:
            self.busy += 1
            self.most_busy = max(self.busy, self.most_busy)
            self.asked[question.documents[0].doc_id] += 1
            self.times.append(time.monotonic())
        try:
            yield 0, self.give(question)
        finally:
            with self.lock:
                self.busy -= 1


def ids(ranking) -> list[str]:
    return [document.doc_id for document in ranking.documents]


def test_as_many_questions_are_in_flight_as_the_judge_wants_and_no_more(listed):
    judge = Hosted(lambda question: (time.sleep(0.005), Graded(float(question.document.doc_id)))[1], concurrent=8)

    with Scheduler(judge) as scheduler:
        rankings = scheduler.run([pointwise(listed(40, f"q{number}")) for number in range(4)])

    assert judge.most_busy == 8
    assert [ids(ranking) for ranking in rankings] == [[str(index) for index in range(39, -1, -1)]] * 4
    assert set(judge.asked.values()) == {4}


def test_a_slow_answer_holds_up_nobody_else(listed):
    others_done = threading.Event()

    def give(question):
        if question.query.query_id == "slow":
            assert others_done.wait(10)
        return Graded(1.0)

    with Scheduler(Hosted(give, concurrent=2)) as scheduler:
        slow = scheduler.submit(pointwise(listed(1, "slow")))
        others = [scheduler.submit(pointwise(listed(30, f"q{number}"))) for number in range(5)]
        for future in others:
            assert len(future.result(timeout=5)) == 30
        assert not slow.done()
        others_done.set()

        assert len(slow.result(timeout=5)) == 1


def test_what_fails_in_passing_is_asked_again_and_the_answer_counts(listed):
    def give(question):
        if judge.asked[question.document.doc_id] < 3:
            raise Transient("429")
        return Graded(float(question.document.doc_id))

    judge = Hosted(give)
    with Scheduler(judge, retry=QUICK) as scheduler:
        [ranking] = scheduler.run([pointwise(listed(10))])

    assert ids(ranking)[:2] == ["9", "8"]
    assert set(judge.asked.values()) == {3}
    assert scheduler.ledger.total["retries"] == 20
    assert scheduler.ledger.total["questions"] == 10


def test_there_is_an_end_to_asking_again_and_it_concerns_one_question(listed):
    def give(question):
        if question.query.query_id == "bad" and question.document.doc_id == "1":
            return Transient("503: overloaded")  # given in an answer's place, which is the same
        return Graded(1.0)

    judge = Hosted(give)
    judge.retry = Retry(tries=4, first=0.001)
    with Scheduler(judge) as scheduler:
        bad, good = (scheduler.submit(pointwise(listed(3, name))) for name in ("bad", "good"))

        with pytest.raises(JudgeError, match=r"Grade of query 'bad' and '1': 503: overloaded; it was asked 4 times"):
            bad.result(timeout=5)
        assert len(good.result(timeout=5)) == 3
    assert judge.asked["1"] == 4 + 1


@pytest.mark.parametrize("error", [ValueError("400: what a prompt"), JudgeError("cannot read the answer")])
def test_other_errors_are_asked_once(listed, error):
    def give(question):
        raise error

    judge = Hosted(give)
    with Scheduler(judge, retry=QUICK) as scheduler, pytest.raises(JudgeError, match=str(error)):
        scheduler.run([pointwise(listed(1))])

    assert judge.asked["0"] == 1


def test_the_judge_is_left_alone_for_as_long_as_it_asks(listed):
    def give(question):
        if sum(judge.asked.values()) == 1:
            raise Transient("429", retry_after=0.2)
        return Graded(1.0)

    judge = Hosted(give, concurrent=1)
    with Scheduler(judge, retry=QUICK) as scheduler:
        scheduler.run([pointwise(listed(5))])

    first, second, *_ = judge.times
    assert 0.2 <= second - first < 1.0
    assert len(judge.times) == 6


def test_a_judge_that_wants_an_hour_is_not_waited_for(listed):
    def give(question):
        raise Transient("429: out of quota", retry_after=3600)

    with (
        Scheduler(Hosted(give)) as scheduler,
        pytest.raises(JudgeError, match="out of quota; to wait 3600 s is longer than the 300 s of patience"),
    ):
        scheduler.run([pointwise(listed(1))])


def test_waits_double_are_drawn_from_the_seed_and_have_a_limit():
    retry = Retry(first=0.5, longest=8.0, seed=3)

    waits = [retry.wait("a question", tries) for tries in range(1, 2000)]

    for wait, whole in zip(waits, [0.5, 1, 2, 4, 8, 8, 8], strict=False):
        assert whole / 2 <= wait <= whole
    assert waits == [Retry(first=0.5, longest=8.0, seed=3).wait("a question", tries) for tries in range(1, 2000)]
    assert waits[0] != retry.wait("another question", 1)
    assert waits[0] != Retry(seed=4).wait("a question", 1)


@pytest.mark.parametrize("options", [{"tries": 0}, {"first": -1.0}, {"longest": float("nan")}, {"patience": -0.1}])
def test_a_retry_that_cannot_be_is_refused(options):
    with pytest.raises(InputError, match="ask at least once"):
        Retry(**options)


@pytest.mark.parametrize("concurrent", [0, -1, 2.0, "many", True])
def test_a_number_of_questions_that_is_none_is_refused(concurrent):
    with pytest.raises(InputError, match=r"Hosted\.concurrent is .*; it is a number of questions, 1 or more"):
        Scheduler(Hosted(concurrent=concurrent))


def test_a_deadline_is_kept_while_a_question_is_in_flight_and_closing_does_not_wait_for_it(listed):
    release = threading.Event()

    def give(question):
        if question.query.query_id == "stuck":
            release.wait(10)
        return Graded(1.0)

    started = time.monotonic()
    with Scheduler(Hosted(give)) as scheduler:
        stuck = scheduler.submit(pointwise(listed(2, "stuck")), deadline=0.05)
        fine = scheduler.submit(pointwise(listed(2, "fine")), deadline=float("inf"))

        with pytest.raises(DeadlineExceeded, match="'stuck' was not finished before its deadline"):
            stuck.result(timeout=5)
        assert len(fine.result(timeout=5)) == 2

    assert 0.05 <= time.monotonic() - started < 2
    release.set()


def test_what_was_in_flight_when_its_plan_was_cancelled_is_kept(listed, tmp_path):
    in_flight, release = threading.Event(), threading.Event()

    def give(question):
        in_flight.set()
        assert release.wait(10)
        return Graded(1.0)

    judge, journal = Hosted(give, concurrent=1), Journal(tmp_path / "journal")
    with Scheduler(judge, journal=journal) as scheduler:
        future = scheduler.submit(pointwise(listed(3)))
        assert in_flight.wait(5)
        assert future.cancel()
        again = scheduler.submit(pointwise(listed(1)))  # asks what is in flight already
        release.set()

        assert len(again.result(timeout=5)) == 1
    journal.close()
    assert judge.asked == {"0": 1}
    assert Journal(tmp_path / "journal").recovered == 1


def test_closing_with_cancel_does_not_wait_for_what_is_in_flight_or_waits_to_be_asked_again(listed):
    release, in_flight = threading.Event(), threading.Event()

    def give(question):
        if question.document.doc_id == "0":
            raise Transient("busy")
        in_flight.set()
        release.wait(10)
        return Graded(1.0)

    scheduler = Scheduler(Hosted(give), retry=Retry(first=60, longest=60))
    future = scheduler.submit(pointwise(listed(100)))
    assert in_flight.wait(5)
    started = time.monotonic()
    scheduler.close(cancel=True)

    assert time.monotonic() - started < 2
    assert future.cancelled()
    release.set()


def test_a_plan_that_waits_to_ask_again_can_be_cancelled(listed):
    refused = threading.Event()

    def give(question):
        refused.set()
        raise Transient("busy")

    with Scheduler(Hosted(give), retry=Retry(first=60, longest=60)) as scheduler:
        future = scheduler.submit(pointwise(listed(1)))
        assert refused.wait(5)
        time.sleep(0.02)
        future.cancel()


def test_the_scheduler_rests_and_works_again(listed):
    with Scheduler(Hosted()) as scheduler:
        for number in range(5):
            assert len(scheduler.run([pointwise(listed(5, f"q{number}"))])[0]) == 5
            time.sleep(0.01)

            assert not [thread for thread in threading.enumerate() if thread.name == "rerank-judge"]


def test_a_judge_that_ends_its_own_thread_fails_its_question_alone(listed):
    def give(question):
        if question.query.query_id == "bad":
            raise SystemExit(3)
        return Graded(1.0)

    with Scheduler(Hosted(give, concurrent=1)) as scheduler:
        bad, good = (scheduler.submit(pointwise(listed(2, name))) for name in ("bad", "good"))

        with pytest.raises(JudgeError, match=r"the judge broke off: SystemExit\(3\)"):
            bad.result(timeout=5)
        assert len(good.result(timeout=5)) == 2


def test_a_judge_that_gives_nothing_is_told_so(listed):
    class Silent(Hosted):
        def answer(self, questions, bill):
            return iter(())

    with Scheduler(Silent()) as scheduler, pytest.raises(JudgeError, match="the judge gave no answer"):
        scheduler.run([pointwise(listed(1))])


def test_a_journal_that_cannot_be_written_fails_the_plans_and_the_scheduler_goes_on(listed, tmp_path, monkeypatch):
    def full(self, key, answer, cost):
        raise FileError("cannot write the journal: No space left on device")

    journal = Journal(tmp_path / "journal")
    with Scheduler(Hosted(), journal=journal) as scheduler:
        monkeypatch.setattr(Journal, "append", full)
        with pytest.raises(FileError, match="No space left"):
            scheduler.run([pointwise(listed(9))])
        time.sleep(0.05)
        monkeypatch.undo()

        assert len(scheduler.run([pointwise(listed(9, "later"))])[0]) == 9
    journal.close()


def test_windows_are_the_same_whoever_waits_for_the_judge(listed):
    class Rank(Hosted):
        answers = frozenset({Permute, Announce})

    seen = []

    def give(question):
        seen.append(question)
        if isinstance(question, Announce):
            raise ValueError("nothing can be made of this")
        order = sorted(range(len(question.documents)), key=lambda index: -int(question.documents[index].doc_id))
        return Permuted(tuple((index,) for index in order))

    with Scheduler(Rank(give)) as scheduler:
        [ranking] = scheduler.run([sliding_windows(listed(100))])

    assert ids(ranking)[:10] == [str(index) for index in range(99, 89, -1)]
    assert Counter(type(question) for question in seen) == {Announce: 8, Permute: 9}
    assert (scheduler.ledger.total["questions"], scheduler.ledger.total["rounds"]) == (9, 9)


def test_plans_that_fail_are_cancelled_or_late_leave_every_other_one_right(listed):
    choice = random.Random(7)
    lock = threading.Lock()

    def give(question):
        with lock:
            draw = choice.random()
        time.sleep(0.001 * draw)
        if draw < 0.1:
            raise Transient("busy", retry_after=0.001 if draw < 0.02 else None)
        if question.query.query_id == "q13":
            raise ValueError("never")
        return Graded(float(hash((question.query.query_id, question.document.doc_id)) % 1000))

    with Scheduler(Hosted(give, concurrent=6), retry=QUICK, memory=10) as scheduler:
        futures = [
            scheduler.submit(
                pointwise(listed(12, f"q{number}")), client=number % 3, deadline=0.03 if number % 10 == 9 else None
            )
            for number in range(60)
        ]
        for _ in range(10):
            time.sleep(0.002)
            futures[choice.randrange(60)].cancel()

    for number, future in enumerate(futures):
        assert future.done()
        if future.cancelled():
            continue
        if (error := future.exception()) is not None:
            assert isinstance(error, DeadlineExceeded) == (number % 10 == 9)
            assert isinstance(error, DeadlineExceeded) or number == 13 or "asked 6 times" in str(error)
        else:
            scores = [candidate.score for candidate in future.result()]
            assert scores == sorted(scores, reverse=True)
            assert len(scores) == 12


class Refusing(BaseHTTPRequestHandler):
    """Says 429 and when to come back, then 503, then answers; a document without text is a bad request."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[float, int]]] = []

    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        status = {0: 429, 3: 503}.get(len(self.seen), 200 if text else 400)
        self.seen.append((time.monotonic(), status))
        body = json.dumps({"score": len(text)}).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class OverHttp:
    """A judge behind a real server."""

    key, answers, reads_ids, concurrent, retry = "http", frozenset({Grade}), False, 4, QUICK

    def __init__(self, address):
        self.address = address

    def answer(self, questions, bill):
        for index, question in enumerate(questions):
            yield index, self.ask(question.document.text)

    def ask(self, text):
        request = Request(self.address, json.dumps({"text": text}).encode())
        try:
            with urlopen(request, timeout=10) as response:
                return Graded(json.load(response)["score"])
        except HTTPError as error:
            with error:
                if error.code in (429, 503):
                    wait = error.headers["Retry-After"]
                    raise Transient(f"HTTP {error.code}", retry_after=None if wait is None else float(wait)) from None
                return JudgeError(f"HTTP {error.code}")


@pytest.fixture
def server():
    Refusing.seen.clear()
    served = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}/"
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_real_server_that_is_busy_is_waited_for(listed, server):
    from rerank.types import Document, Query, Ranking

    documents = [Document(str(length), "x" * length) for length in range(1, 21)]
    bad = Ranking.unscored(Query("bad", "?"), [Document("empty", "")])

    ledger = Ledger()
    with Scheduler(OverHttp(server), ledger=ledger) as scheduler:
        good = scheduler.submit(pointwise(Ranking.unscored(Query("good", "?"), documents)))
        assert ids(good.result(timeout=10)) == [str(length) for length in range(20, 0, -1)]
        with pytest.raises(JudgeError, match="Grade of query 'bad' and 'empty': HTTP 400"):
            scheduler.submit(pointwise(bad)).result(timeout=10)

    statuses = Counter(status for _, status in Refusing.seen)
    assert statuses == {200: 20, 429: 1, 503: 1, 400: 1}
    assert ledger.total["retries"] == 2
    since = [at - Refusing.seen[0][0] for at, _ in Refusing.seen]
    assert not [seconds for seconds in since if 0.3 < seconds < 0.99]  # it asked to be left alone for a second
    assert max(since) > 0.99
