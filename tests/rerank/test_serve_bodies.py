"""Bodies that no client should send: a clear 4xx, at once."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from live_server import Live, live

from rerank import Reranker
from rerank.judges.fake import Oracle
from rerank.serve.asked import Refused
from rerank.serve.shape import check_parts

PATHS = ["/rerank", "/v1/rerank", "/v2/rerank", "/jina/v1/rerank", "/score"]
AT_ONCE = 3.0
"""Seconds; on an idle machine it is less than one."""


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """With small limits."""
    with live(Reranker(judge=Oracle({})), max_body=4_000_000, max_documents=100, max_tokens=5_000) as running:
        yield running


BODIES = {
    "no JSON": (b"{", {400, 422}),
    "nothing": (b"", {422}),
    "deep": (b'{"query": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {400, 422}),
    "deep objects": (b'{"a":' * 100_000, {400, 413, 422}),
    "no UTF-8": (b'{"query": "\xff\xfe", "documents": ["a"]}', {400, 422}),
    "half a surrogate": (b'{"query": "\\ud800", "documents": ["a"], "texts": null}', {422}),
    "a half in a key": (b'{"\\ud800": 1}', {422}),
    "a number too long": (b'{"query": ' + b"9" * 10_000 + b"}", {400, 422}),
    "NaN": (b'{"query": NaN, "documents": [NaN]}', {422}),
    "wrong types": (b'{"query": {"a": 1}, "documents": "text", "texts": 1, "text_1": 1, "text_2": 2}', {422}),
    "numbers for texts": (b'{"query": "q", "documents": [1, null, true]}', {422}),
    "no documents": (b'{"query": "q", "documents": []}', {422}),
    "100,000 documents": (json.dumps({"query": "q", "documents": ["a"] * 100_000}).encode(), {413, 422}),
    "a million numbers": (b'{"query": "q", "documents": [1' + b",1" * 1_000_000 + b"]}", {413, 422}),
    "a million objects": (b'{"query": "q", "documents": [{}' + b",{}" * 1_000_000 + b"]}", {413, 422}),
    "a million lists": (b'{"query": "q", "documents": [[]' + b",[]" * 1_000_000 + b"]}", {413}),
    "lists in UTF-16": (('{"query": "' + '\\"' * 101 + '", "a": [' + "[]," * 300_000 + "0]}").encode("utf-16"), {400}),
    "a million on both sides": (
        json.dumps({"text_1": ["a"] * 500_000, "text_2": ["a"] * 500_000}).encode(),
        {413, 422},
    ),
    "200,000 fields": (json.dumps({f"field{n}": 1 for n in range(200_000)}).encode(), {413}),
    "200,000 fields of a document": (
        json.dumps({"query": "q", "documents": [{f"field{n}": 1 for n in range(200_000)}]}).encode(),
        {413},
    ),
    "a document of 4 MB": (json.dumps({"query": "q", "documents": ["a " * 1_900_000]}).encode(), {413, 422}),
    "a list": (b"[]", {422}),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("body", "statuses"), BODIES.values(), ids=BODIES.keys())
def test_a_bad_body_is_refused_at_once(server: Live, path: str, body: bytes, statuses: set[int]) -> None:
    started = time.monotonic()

    response = server.client.post(path, content=body, headers={"Content-Type": "application/json"})

    assert response.status_code in statuses, response.text
    assert response.json()
    assert time.monotonic() - started < AT_ONCE


@pytest.mark.parametrize(
    ("path", "more"),
    [("/v1/rerank", {"top_n": -1}), ("/v1/rerank", {"top_n": 0}), ("/v1/rerank", {"top_n": "3"}),
     ("/v1/rerank", {"top_n": True}), ("/v1/rerank", {"top_n": 1.5}), ("/v2/rerank", {"top_n": -1}),
     ("/v2/rerank", {"priority": 3}), ("/v2/rerank", {"return_documents": True}), ("/jina/v1/rerank", {"top_n": -1}),
     ("/rerank", {"top_n": -1}), ("/rerank", {"truncate_prompt_tokens": 5}), ("/v1/rerank", {"return_documents": 1}),
     ("/v1/rerank", {"long_documents": "best"}), ("/v1/rerank", {"window_tokens": 5}), ("/v1/rerank", {"model": 7})],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_refused(server: Live, path: str, more: dict[str, object]) -> None:
    response = server.post(path, {"query": "q", "documents": ["a"], **more})

    assert response.status_code == 422
    assert next(iter(more)).split("_")[0] in response.text


def test_too_much_is_413(server: Live) -> None:
    many = server.post("/v1/rerank", {"query": "q", "documents": ["a"] * 101})
    long = server.post("/v1/rerank", {"query": "q", "documents": ["a word " * 1_000]})
    chunked = server.client.post("/v1/rerank", content=iter([b" " * 1_000_000] * 5))

    assert {many.status_code, long.status_code, chunked.status_code} == {413}
    assert many.json()["message"] == "101 documents; send at most 100 in a request"
    assert "send at most 5000" in long.json()["message"]


def test_documents_are_counted_before_their_types_are_looked_at(server: Live) -> None:
    many = server.post("/rerank", {"query": "q", "texts": [1] * 101})
    some = server.post("/v1/rerank", {"query": "q", "documents": ["a", *[1] * 99]})
    wide = server.post("/v1/rerank", {"query": "q", "documents": ["a", {f"field{n}": "a" for n in range(101)}]})

    assert many.json() == {"error": "101 texts; send at most 100 in a request", "error_type": "Validation"}
    assert "documents.1" in some.json()["message"]
    assert "documents.2" not in some.json()["message"]
    assert (wide.status_code, wide.json()["message"]) == (422, "documents.1 has 101 fields; send at most 100")


def test_commas_and_quotes_of_texts_are_not_counted(server: Live) -> None:
    text = '\\", [' * 50_000 + "\\"
    rerank = server.post("/v1/rerank", {"query": "q", "documents": [text, "a"], "max_tokens_per_doc": 5})

    check_parts(json.dumps({"query": "q", "documents": [text, "a"]}).encode(), 1)
    check_parts(json.dumps({"documents": [{f"f{n}": text[:20] for n in range(100)}] * 100}).encode(), 100)
    assert rerank.status_code == 200 or "tokens" in rerank.json()["message"]
    with pytest.raises(Refused, match="more than 300 values"):
        check_parts(json.dumps({"query": text, "documents": ["a", *[1] * 301]}).encode(), 1)


@pytest.mark.parametrize(("side", "words"), [("texts", {"error", "error_type"}), ("documents", {"error"})])
def test_who_sends_too_many_is_told_in_their_own_dialect(server: Live, side: str, words: set[str]) -> None:
    many = server.post("/rerank", {"query": "q", side: ["a"] * 101})

    assert (many.status_code, set(many.json())) == (413, words)
    assert f"101 {side}" in many.text


def test_100_megabytes_are_refused_at_once(server: Live) -> None:
    body = b"x" * 100_000_000
    started = time.monotonic()

    response = server.client.post("/rerank", content=body)

    assert response.status_code == 413
    assert response.json()["error_type"] == "Validation"
    assert time.monotonic() - started < AT_ONCE


@pytest.mark.parametrize("flood", [b"X-A: " + b"a" * 1_000_000, b"\r\n".join(b"X-%d: a" % n for n in range(50_000))])
def test_a_flood_of_headers_is_refused_at_once(server: Live, flood: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=AT_ONCE) as connection:
        with suppress(OSError):  # it may hang up while we send
            connection.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\n" + flood + b"\r\n\r\n")
        try:
            answer = connection.recv(1000)
        except ConnectionResetError:
            answer = b"HTTP/1.1 400"

    assert answer.startswith(b"HTTP/1.1 4")
    assert server.client.get("/health").status_code == 200


def test_other_methods_and_types_are_refused(server: Live) -> None:
    assert server.client.get("/v1/rerank").status_code == 405
    assert server.client.post("/v1/rerank", content=b"query=q").status_code == 422
    assert set(server.client.get("/v2/rerank").json()) == {"id", "message"}
