"""How long a server takes to refuse what no client should send: python -m benchmarks.hostile_bodies.

The server has its usual limits and stands in a process of its own on loopback; every request is the only one. A client
of plain sockets sends as much as the server takes, and stops when an answer is there, as curl does.
"""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.serving import SMALL, serving

__all__ = ["CASES", "answered"]

RESULTS = Path(__file__).parent / "results" / "serving.jsonl"
PIECE = 65_536
MEGABYTES_100 = 100_000_000
FULL = 16_000_000
"""Bytes: a body that is just within the usual limit."""


def _filled(beginning: str, each: str, end: str) -> bytes:
    """JSON that repeats a part until the body is as large as one may be."""
    return (beginning + each * ((FULL - len(beginning) - len(end)) // len(each)) + end).encode()


def _fields() -> bytes:
    return json.dumps({f"field{number}": 1 for number in range(FULL // 20)}).encode()


CASES: dict[str, tuple[str, bytes]] = {
    "100,000 documents": ("", json.dumps({"query": "q", "documents": ["a"] * 100_000}).encode()),
    "16 MB of documents": ("", _filled('{"query": "q", "documents": ["a"', ',"a"', "]}")),
    "16 MB of numbers for documents": ("", _filled('{"query": "q", "documents": [1', ",1", "]}")),
    "16 MB of objects for documents": ("", _filled('{"query": "q", "documents": [{}', ",{}", "]}")),
    "16 MB of lists for documents": ("", _filled('{"query": "q", "documents": [[]', ",[]", "]}")),
    "16 MB of numbers in one document": ("", _filled('{"query": "q", "documents": [{"a": 1', ', "b": 1', "}]}")),
    "16 MB of one document": ("", _filled('{"query": "q", "documents": ["', "a word ", '"]}')),
    "16 MB of field names": ("", _fields()),
    "16 MB of brackets": ("", _filled('{"query": ', "[", "")),
    "16 MB of nested objects": ("", _filled("", '{"a":', "")),
    "a number of 16 MB": ("", _filled('{"query": ', "9", "}")),
    "16 MB that are no UTF-8": ("", b'{"query": "' + b"\xff" * FULL + b'"}'),
    "wrong types": ("", b'{"query": {"a": 1}, "documents": "text", "texts": 1, "text_1": 1, "text_2": 2}'),
    "a negative top_n": ("", b'{"query": "q", "documents": ["a"], "top_n": -1}'),
    "100 MB, length declared": (f"Content-Length: {MEGABYTES_100}\r\n", b" " * MEGABYTES_100),
    "100 MB in chunks": ("Transfer-Encoding: chunked\r\n", (b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 95),
    "1 MB in a header": ("X-A: " + "a" * 1_000_000 + "\r\n", b"{}"),
    "50,000 headers": ("".join(f"X-{number}: a\r\n" for number in range(50_000)), b"{}"),
}
"""What is sent: headers of its own, and the body."""


def answered(port: int, path: str, headers: str, body: bytes, wait: float = 60.0) -> tuple[int, float, str]:
    """Send a request: the status, the seconds until the answer had come, and its body; 0 when the server hung up."""
    if "Content-Length" not in headers and "chunked" not in headers:
        headers += f"Content-Length: {len(body)}\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}\r\n"
    started, said, left = time.perf_counter(), b"", memoryview(head.encode() + body)
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        try:
            while True:
                reads, writes, _ = select.select([connection], [connection] if left else [], [], wait)
                if reads:
                    piece = connection.recv(PIECE)
                    said += piece
                    if not piece:
                        break
                    left = memoryview(b"")
                elif writes:
                    left = left[connection.send(left[:PIECE]) :]
                else:
                    break
        except ConnectionError:
            pass
    status = int(said[9:12]) if said.startswith(b"HTTP/1.1 ") else 0
    return status, time.perf_counter() - started, said.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")


def _rows(port: int, paths: tuple[str, ...], times: int) -> Iterator[dict[str, Any]]:
    for name, (headers, body) in CASES.items():
        found = [answered(port, path, headers, body) for path in paths for _ in range(times)]
        seconds = [took for _, took, _ in found]
        yield {
            "body": name,
            "statuses": sorted({status for status, _, _ in found}),
            "median_seconds": round(statistics.median(seconds), 4),
            "longest_seconds": round(max(seconds), 4),
            "says": found[0][2][:160],
        }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--times", default=3, show_default=True, help="How often each is sent to each path.")
@click.option("--path", "paths", multiple=True, default=("/rerank", "/v1/rerank", "/v2/rerank", "/jina/v1/rerank"))
@click.option("--write", is_flag=True, help="Append a row to benchmarks/results/serving.jsonl.")
def main(times: int, paths: tuple[str, ...], write: bool) -> None:
    """Send every kind of body to every path, one request after another."""
    from benchmarks.machine import commit, machine

    load = round(os.getloadavg()[0], 2)
    with serving(SMALL) as (port, _):
        rows = []
        for row in _rows(port, paths, times):
            click.echo(f"{row['body']:36} {row['statuses']} {row['median_seconds']:8.3f} {row['longest_seconds']:8.3f}")
            rows.append(row)
    row = {"benchmark": "serving bodies", "commit": commit(), **machine(), "load_before": load, "bodies": rows}
    if write:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
