"""What servers do wrong: each is one clear line about its question, and the key is in none of them."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from model_server import ok, served

from rerank.algorithms.pointwise import pointwise
from rerank.cost import Ledger
from rerank.engine.journal import Journal
from rerank.engine.scheduler import Scheduler
from rerank.engine.scheduling.retries import Retry
from rerank.errors import JudgeError, Transient
from rerank.judges.hosted import Hosted
from rerank.questions import Grade
from rerank.types import Document, Query

KEY = "sk-not-to-be-seen"
QUESTION = Grade(Query("q", "how many?"), Document("d", "three"))
STEP = {
    "token": "Yes",
    "logprob": -0.1,
    "top_logprobs": [{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": -3}],
}
FINE = {
    "choices": [{"message": {"content": "Yes"}, "finish_reason": "stop", "logprobs": {"content": [STEP]}}],
    "usage": {"prompt_tokens": 30, "completion_tokens": 1},
}


def said(status, message, **headers):
    body = json.dumps({"error": {"message": message, "type": "an error"}}).encode()
    return status, {"Content-Type": "application/json", **headers}, body


@pytest.fixture
def judging(monkeypatch):
    """(a function of the number of the request) -> a judge and the requests' headers; servers end with the test."""
    from contextlib import ExitStack

    monkeypatch.setenv("KEY_OF_THE_TEST", KEY)
    with ExitStack() as stack:

        def made(give, **options):
            seen, lock = [], threading.Lock()

            def numbered(path, body, headers):
                with lock:
                    seen.append((time.monotonic(), dict(headers)))
                    number = len(seen)
                return give(number)

            address = stack.enter_context(served(numbered))
            options = {"prompt": "yes-no", "api_key_env": "KEY_OF_THE_TEST", "timeout": 5.0} | options
            judge = Hosted(f"{address}#m", **options)
            judge.retry = Retry(tries=judge.retry.tries, first=0.01, longest=0.02)
            stack.callback(judge.close)
            return judge, seen

        yield made


def error_of(judge):
    [(_, error)] = judge.answer([QUESTION], Ledger())
    assert isinstance(error, Exception)
    assert KEY not in f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
    return error


def test_a_busy_server_is_waited_for_and_asked_again(judging, listed):
    replies = {1: said(429, "slow down", **{"Retry-After": "0.3"}), 2: said(503, "loading"), 3: said(500, "oops")}
    judge, seen = judging(lambda number: replies.get(number, ok(FINE)), concurrent=1)
    ledger = Ledger()

    with Scheduler(judge, ledger=ledger) as scheduler:
        [ranking] = scheduler.run([pointwise(listed(4))])

    assert len(ranking) == 4
    assert ledger.total["retries"] == 3
    assert seen[1][0] - seen[0][0] >= 0.3
    assert {headers["Authorization"] for _, headers in seen} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("when", ["Wed, 21 Oct 2015 07:28:00 GMT", "soon", "nan"])
def test_a_time_to_come_back_that_is_past_or_none_is_no_time(judging, when):
    judge, _ = judging(lambda number: said(429, "slow down", **{"Retry-After": when}))

    assert error_of(judge).retry_after in (None, 0.0)


@pytest.mark.parametrize(
    ("status", "message"), [(401, f"Incorrect API key provided: {KEY}"), (404, "no model m"), (402, "no credits")]
)
def test_what_every_question_would_be_told_is_asked_once(judging, listed, status, message):
    judge, seen = judging(lambda number: said(status, message), concurrent=1)

    with Scheduler(judge) as scheduler, pytest.raises(JudgeError, match=f"HTTP {status} from http") as failed:
        scheduler.run([pointwise(listed(30, f"q{number}")) for number in range(10)])

    assert len(seen) == 1
    assert KEY not in str(failed.value)
    assert message.partition(":")[0] in str(failed.value)


def test_a_quota_that_is_used_up_is_not_waited_for(judging):
    judge, _ = judging(lambda number: (429, {}, b'{"error": {"message": "pay", "code": "insufficient_quota"}}'))

    assert not isinstance(error_of(judge), Transient)


def test_a_prompt_that_is_too_long_fails_alone_and_in_the_servers_words(judging, listed):
    judge, _ = judging(
        lambda number: said(400, "maximum context length is 8192 tokens") if number == 1 else ok(FINE), concurrent=1
    )

    with Scheduler(judge) as scheduler:
        long, short = (scheduler.submit(pointwise(listed(1, name))) for name in ("long", "short"))
        with pytest.raises(
            JudgeError, match=r"Grade of query 'long' and '0': HTTP 400 .*maximum context length is 8192"
        ):
            long.result(timeout=10)
        assert len(short.result(timeout=10)) == 1


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((200, {}, b"<html>a proxy's page"), "answered what is no JSON: <html>a proxy's page"),
        ((200, {}, b"[1]"), "no JSON object"),
        ((200, {}, b'{"object": "chat.completion"}'), "the server's answer cannot be read: KeyError: 'choices'"),
        ((200, {}, b'{"error": {"message": "the provider is away"}}'), "an error: the provider is away"),
        ((307, {"Location": "http://127.0.0.1:9/"}, b""), "HTTP 307"),
        ((422, {}, b'{"detail": [{"msg": "no such field"}]}'), "no such field"),
        ((400, {}, b""), "HTTP 400 from .*: Bad Request"),
        ((400, {}, b"x" * 5000), "x …"),
    ],
)
def test_broken_answers_are_errors_that_name_the_question(judging, listed, reply, message):
    judge, seen = judging(lambda number: reply)

    with (
        Scheduler(judge) as scheduler,
        pytest.raises(JudgeError, match=f"Grade of query 'query' and '0': .*{message}") as failed,
    ):
        scheduler.run([pointwise(listed(1))])

    assert len(seen) == 1
    assert len(str(failed.value)) < 500
    assert "\n" not in str(failed.value)


def test_a_body_that_breaks_off_is_asked_for_again(judging, listed):
    whole = json.dumps(FINE).encode()
    judge, _seen = judging(
        lambda number: (
            (200, {"Content-Length": str(len(whole)), "Connection": "close"}, whole[:50]) if number == 1 else ok(FINE)
        )
    )

    with Scheduler(judge) as scheduler:
        [ranking] = scheduler.run([pointwise(listed(1))])

    assert len(ranking) == 1
    assert scheduler.ledger.total["retries"] == 1


def test_a_server_that_is_silent_is_given_up_after_its_time(judging):
    release = threading.Event()
    judge, _ = judging(lambda number: (release.wait(5), ok(FINE))[1], timeout=0.1)

    started = time.monotonic()
    error = error_of(judge)
    release.set()

    assert isinstance(error, Transient)
    assert "gave no answer in 0.1 s" in str(error)
    assert time.monotonic() - started < 3


def test_nobody_at_the_address_is_an_error_after_so_many_tries(listed):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        judge = Hosted(f"http://127.0.0.1:{taken.getsockname()[1]}#m", prompt="yes-no", tries=2)
        judge.retry = Retry(tries=2, first=0.01)

        with Scheduler(judge) as scheduler, pytest.raises(JudgeError, match="Connection refused; it was asked 2 times"):
            scheduler.run([pointwise(listed(1))])
    with pytest.raises(JudgeError, match=r"the connection to http://127\.0\.0\.1:9/v1 failed"):
        Hosted("http://127.0.0.1:9", prompt="yes-no")


def test_several_models_want_a_name(judging):
    with (
        served(lambda path, body, headers: ok({"data": [{"id": "a"}, {"id": "b"}]})) as address,
        pytest.raises(JudgeError, match=r"serves a, b; name the model: http.*#MODEL"),
    ):
        Hosted(address, prompt="yes-no")


def test_a_netrc_puts_no_other_key_in_place_of_ours(judging, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password theirs\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with_key, seen = judging(lambda number: ok(FINE))
    without, others = judging(lambda number: ok(FINE), api_key_env="")

    for judge in (with_key, without):
        list(judge.answer([QUESTION], Ledger()))

    assert seen[0][1]["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in others[0][1]


def test_the_key_is_in_no_journal_ledger_note_or_name(judging, listed, tmp_path):
    judge, _ = judging(lambda number: ok(FINE))
    ledger, journal = Ledger(), Journal(tmp_path / "journal")

    with Scheduler(judge, ledger=ledger, journal=journal) as scheduler:
        scheduler.run([pointwise(listed(3))])
    journal.close()

    assert ledger.notes["key from"] == "KEY_OF_THE_TEST"
    for text in (json.dumps(ledger.as_dict(queries=True)), (tmp_path / "journal").read_text(), repr(judge), judge.key):
        assert KEY not in text


def test_usage_that_is_not_told_is_noted(judging):
    judge, _ = judging(lambda number: ok({"choices": FINE["choices"]}), input_price=1.0)
    ledger = Ledger()

    list(judge.answer([QUESTION], ledger))

    assert "price" not in ledger.total
    assert "tokens_real" not in ledger.total
    assert "does not tell its tokens" in ledger.notes["usage"]
