"""What goes wrong for one request is no matter of the others: overflow, deadlines, hang-ups, poison, the end."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from live_server import Live, bert, live, until

from rerank import Reranker
from rerank.questions import Announce, Answer, Bill, Grade, Graded, Question
from rerank.serve import Served, Settings
from rerank.serve.admission import Admission
from rerank.serve.asked import Refused
from rerank.serve.running import server_for


class Gate:
    """Grades a text by its length, when its gate is open; "poison" makes it raise."""

    key, reads_ids, scale = "gate", False, "logit"
    answers: ClassVar[frozenset[type]] = frozenset({Grade})

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.calls: list[list[str]] = []

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Answer]]:
        texts = [question.documents[0].text for question in questions if not isinstance(question, Announce)]
        self.calls.append(texts)
        self.gate.wait(30)
        if any("poison" in text for text in texts):
            raise RuntimeError(f"cannot read {texts}")
        for index, text in enumerate(texts):
            yield index, Graded(float(len(text)))


@pytest.fixture
def judge() -> Iterator[Gate]:
    """Its gate is closed, and open at the end."""
    made = Gate()
    yield made
    made.gate.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Clients."""
    with ThreadPoolExecutor(32) as made:
        yield made


def body(*texts: str) -> dict[str, Any]:
    return {"query": "q", "documents": list(texts), "raw_scores": True}


def served(judge: Gate, **told: Any) -> Any:
    """A server whose first question, that of its warm-up, is answered."""
    judge.gate.set()
    return live(Reranker(judge=judge), **told)


def right(response: httpx.Response, *texts: str) -> bool:
    found = {result["index"]: result["relevance_score"] for result in response.json()["results"]}
    return response.status_code == 200 and found == {index: float(len(text)) for index, text in enumerate(texts)}


def closed(judge: Gate, server: Live, pool: ThreadPoolExecutor, **options: Any) -> Any:
    """Close the gate, and have a first request stand before it; its future."""
    judge.gate.clear()
    judge.calls.clear()
    first = pool.submit(server.post, "/v1/rerank", body("first"), **options)
    until(lambda: judge.calls)
    return first


def test_the_questions_of_waiting_requests_are_asked_in_one_call(judge: Gate, pool: ThreadPoolExecutor) -> None:
    with served(judge) as server:
        first = closed(judge, server, pool)
        others = [pool.submit(server.post, "/v1/rerank", body(f"text {number}")) for number in range(20)]
        until(lambda: server.models.all[0].admission.open_requests == 21)
        judge.gate.set()

        assert all(right(other.result(), f"text {number}") for number, other in enumerate(others))
        assert right(first.result(), "first")
    assert [len(call) for call in judge.calls] == [1, 20]


def test_a_full_queue_says_when_to_come_again(judge: Gate, pool: ThreadPoolExecutor) -> None:
    with served(judge, queue=2, client_share=1.0) as server:
        waiting = [closed(judge, server, pool), pool.submit(server.post, "/v1/rerank", body("second"))]
        until(lambda: server.models.all[0].admission.open_requests == 2)
        refused = server.post("/v1/rerank", body("third"))
        of_tei = server.post("/rerank", {"query": "q", "texts": ["third"]})
        judge.gate.set()

        assert refused.status_code == of_tei.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert of_tei.json()["error_type"] == "Overloaded"
        assert right(waiting[0].result(), "first")
        assert right(waiting[1].result(), "second")
        assert right(server.post("/v1/rerank", body("third")), "third")


def test_no_client_fills_more_than_its_share_of_the_queue() -> None:
    queue = Admission(requests=4, documents=100, share=0.5)
    queue.enter("greedy", 10)
    queue.enter("greedy", 10)

    with pytest.raises(Refused, match="2 of your requests") as told:
        queue.enter("greedy", 1)
    queue.enter("another", 1)
    queue.leave("greedy", 10, answered=True)
    queue.enter("greedy", 1)
    with pytest.raises(Refused, match="21 documents"):
        Admission.enter(_full(queue), "third", 90)

    assert told.value.status == 429
    assert told.value.retry_after is not None


def _full(queue: Admission) -> Admission:
    assert (queue.open_requests, queue.open_documents) == (3, 12)
    queue.enter("fourth", 9)
    queue._requests = 5
    return queue


def test_a_client_with_few_documents_does_not_wait_for_one_with_many(judge: Gate, pool: ThreadPoolExecutor) -> None:
    with served(judge, api_keys=("many", "few"), at_once=8, max_documents=500) as server:
        many = {"headers": {"Authorization": "Bearer many"}}
        first = closed(judge, server, pool, **many)
        texts = [f"text {number}" for number in range(400)]
        large = pool.submit(server.post, "/v1/rerank", body(*texts), **many)
        small = pool.submit(server.post, "/v1/rerank", body("small"), headers={"Authorization": "Bearer few"})
        until(lambda: server.models.all[0].admission.open_requests == 3)
        judge.gate.set()

        assert right(small.result(), "small")
        assert right(large.result(), *texts)
        assert right(first.result(), "first")
    [place] = [number for number, call in enumerate(judge.calls) if "small" in call]
    assert place <= 2 < len(judge.calls)


def test_a_request_past_its_deadline_is_given_up(judge: Gate, pool: ThreadPoolExecutor) -> None:
    with served(judge) as server:
        first = closed(judge, server, pool)
        late = server.post("/v1/rerank", body("late"), headers={"X-Timeout-Seconds": "0.1"})
        judge.gate.set()

        assert late.status_code == 504
        assert "0.1 seconds" in late.json()["message"]
        assert right(first.result(), "first")
        assert server.models.all[0].admission.open_requests == 0
        assert server.post("/v1/rerank", body("x"), headers={"X-Timeout-Seconds": "soon"}).status_code == 422
    assert not any("late" in call for call in judge.calls)


def test_a_client_that_hangs_up_is_forgotten(judge: Gate, pool: ThreadPoolExecutor) -> None:
    with served(judge) as server:
        first = closed(judge, server, pool)
        sent = json.dumps(body("gone")).encode()
        head = f"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(sent)}"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + b"\r\n\r\n" + sent)
            until(lambda: server.models.all[0].admission.open_requests == 2)
        until(lambda: server.models.all[0].admission.open_requests == 1)
        judge.gate.set()

        assert right(first.result(), "first")
        assert right(server.post("/v1/rerank", body("next")), "next")
        assert 'rerank_requests_total{path="/v1/rerank",status="499"} 1.0' in server.client.get("/metrics").text
    assert not any("gone" in call for call in judge.calls)


def test_a_poisoned_document_fails_its_own_request_alone(
    judge: Gate, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    with served(judge) as server:
        first = closed(judge, server, pool)
        poisoned = pool.submit(server.post, "/v1/rerank", body("good", "poison"))
        of_tei = pool.submit(server.post, "/rerank", {"query": "q", "texts": ["more poison"]})
        others = [pool.submit(server.post, "/v1/rerank", body(f"text {number}")) for number in range(8)]
        until(lambda: server.models.all[0].admission.open_requests == 11)
        with caplog.at_level(logging.INFO, "rerank.serve"):
            judge.gate.set()
            answers = [other.result() for other in others]

        assert all(right(answer, f"text {number}") for number, answer in enumerate(answers))
        assert poisoned.result().status_code == 500
        assert "cannot read ['poison']" in poisoned.result().json()["message"]
        assert of_tei.result().status_code == 424
        assert of_tei.result().json()["error_type"] == "Backend"
        assert right(first.result(), "first")
    assert "poison" not in caplog.text


def test_what_was_accepted_is_answered_before_the_end(judge: Gate, pool: ThreadPoolExecutor) -> None:
    with served(judge) as server:
        first = closed(judge, server, pool)
        address = f"{server.client.base_url}/v1/rerank"
        others = [pool.submit(httpx.post, address, json=body(f"text {number}")) for number in range(9)]
        until(lambda: server.models.all[0].admission.open_requests == 10)
        server.models.ending = server.server.should_exit = True
        time.sleep(0.2)
        judge.gate.set()

        assert right(first.result(), "first")
        assert all(right(other.result(), f"text {number}") for number, other in enumerate(others))
        with pytest.raises(httpx.ConnectError):
            until(lambda: httpx.get(f"{server.client.base_url}/health").status_code != 200, 10)


def test_keys_are_wanted_where_there_are_any(judge: Gate) -> None:
    with served(judge, api_keys=("one", "two"), cors_origins=("https://page.example",)) as server:
        statuses = {
            key: server.post("/v2/rerank", {"query": "q", "documents": ["a"]}, headers=headers).status_code
            for key, headers in {
                "none": {},
                "wrong": {"Authorization": "Bearer three"},
                "other scheme": {"Authorization": "Basic one"},
                "one": {"Authorization": "Bearer one"},
                "two": {"Authorization": "bearer two"},
            }.items()
        }
        asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
        preflight = server.client.options("/v2/rerank", headers=asked)

        assert statuses == {"none": 401, "wrong": 401, "other scheme": 401, "one": 200, "two": 200}
        assert server.client.get("/v1/models").status_code == 401
        assert {server.client.get(path).status_code for path in ("/health", "/ready", "/metrics", "/docs")} == {200}
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://page.example"


def test_pages_of_other_origins_may_not_ask_by_default(judge: Gate) -> None:
    with served(judge) as server:
        response = server.client.get("/health", headers={"Origin": "https://page.example"})

        assert "Access-Control-Allow-Origin" not in response.headers


def requests_told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.getMessage() == "request"]  # type: ignore[attr-defined]


def test_the_log_holds_no_text_unless_it_is_asked_for(judge: Gate, caplog: pytest.LogCaptureFixture) -> None:
    fields = []
    for log_text in (False, True):
        caplog.clear()
        with served(judge, log_text=log_text) as server, caplog.at_level(logging.INFO, "rerank.serve"):
            server.post("/v1/rerank", body("a secret"), headers={"X-Request-Id": "mine"})
            until = time.monotonic() + 10  # the line is written when the answer is out already
            while not (lines := requests_told(caplog)) and time.monotonic() < until:
                time.sleep(0.01)
        [line] = lines
        fields.append(line)

    assert fields[0]["request_id"] == "mine"
    assert (fields[0]["status"], fields[0]["documents"], fields[0]["model"]) == (200, 1, "first")
    assert "secret" not in str(fields[0])
    assert fields[1]["texts"] == ["a secret"]


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    (folder / "model.safetensors").write_bytes(b"broken")

    server, app = server_for(Settings(models=(Served(str(folder), "broken"),), port=0))

    server.run()  # ends by itself

    assert "header" in str(app.state.models.failure)


def test_sigterm_under_load_answers_what_was_accepted(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    texts = [f"how many people live in berlin {word}" for word in ("wall", "art", "city")]
    expected = [candidate.score for candidate in Reranker(folder).rank("who won", texts)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "rerank.cli", "serve", "--model", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: _status(port) == 200, 300)  # a busy machine is long at importing torch
            with ThreadPoolExecutor(8) as pool:
                answers: list[list[float]] = []
                asking = [pool.submit(_ask_until_the_end, port, texts, answers) for _ in range(8)]
                until(lambda: len(answers) > 8)
                process.send_signal(signal.SIGTERM)
                for each in asking:
                    each.result()
            log = [json.loads(line) for line in (process.stderr or [])]
        finally:
            process.kill()

    served = [line for line in log if line["event"] == "request" and line["path"] == "/v1/rerank"]
    assert {line["status"] for line in served} == {200}
    assert len(served) == len(answers) > 8
    assert all(answer == expected for answer in answers)
    assert log[-2]["event"] != "a bug"


def _status(port: int) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready").status_code
    except httpx.TransportError:
        return 0


def _ask_until_the_end(port: int, texts: list[str], answers: list[list[float]]) -> None:
    """The scores of every answer, until the server takes no more."""
    with httpx.Client(timeout=60) as client:
        while True:
            try:
                asked = {"query": "who won", "documents": texts, "raw_scores": True}
                answer = client.post(f"http://127.0.0.1:{port}/v1/rerank", json=asked)
            except httpx.TransportError:
                return
            answers.append([result["relevance_score"] for result in answer.json()["results"]])
