"""The server under load, on loopback: python -m benchmarks.serving load · throughput · memory · kill.

The clients stand in this process, the server in one of its own; both share the machine's cores, which is what is
measured. Every answer is compared with the score that the library gave for the same texts before, bit by bit.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import click

from rerank import Dataset, Reranker
from rerank.types import Document, Query, Ranking

RESULTS = Path(__file__).parent / "results" / "serving.jsonl"
MODEL = "cross-encoder/ms-marco-MiniLM-L12-v2"
SMALL = "bert-mini-reranker"
"""Ships with the package."""
MIXED = (1, 1, 2, 3, 5, 10, 20)
"""Documents of a request of mixed sizes, each as likely."""

Ask = Callable[[random.Random], tuple[str, list[str]]]


@dataclass
class Texts:
    """Queries and documents of NovelEval with the score of every pair, by the library."""

    queries: list[str]
    documents: list[str]
    scores: dict[tuple[str, str], float]

    @classmethod
    def short(cls) -> Texts:
        """Pairs of at most 64 tokens."""
        return cls.scored([text.split()[:30] for text in _passages()])

    @classmethod
    def mixed(cls) -> Texts:
        """Passages of all lengths."""
        choice = random.Random(0)
        return cls.scored([text.split()[: choice.choice((10, 30, 60, 120, 200))] for text in _passages()])

    @classmethod
    def scored(cls, documents: list[list[str]], count: int = 25) -> Texts:
        """The first so many documents with every query, five queries in all."""
        texts = list(dict.fromkeys(" ".join(words) for words in documents))[:count]
        queries = [query.text for query in Dataset.load("noveleval").queries[:5]]
        given = [Document(str(index), text) for index, text in enumerate(texts)]
        with Reranker(MODEL) as reranker:
            ranked = reranker.rerank([Ranking.unscored(Query(query, query), given) for query in queries])
        scores = {
            (ranking.query.text, candidate.document.text): candidate.score or 0.0
            for ranking in ranked
            for candidate in ranking
        }
        return cls(queries, texts, scores)

    def one(self, choice: random.Random) -> tuple[str, list[str]]:
        """A query and one document."""
        return choice.choice(self.queries), [choice.choice(self.documents)]

    def several(self, choice: random.Random) -> tuple[str, list[str]]:
        """A query and some documents."""
        return choice.choice(self.queries), choice.sample(self.documents, choice.choice(MIXED))


def _passages() -> list[str]:
    return [document.full_text for document in Dataset.load("noveleval").documents()]


@dataclass
class Outcome:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    ended: list[tuple[float, int]] = field(default_factory=list)
    """When an answer was there, by the performance counter, and its status; 0 is a broken connection."""
    errors: int = 0
    wrong: int = 0
    documents: int = 0
    elapsed: float = 0.0

    def add(self, took: float, status: int, found: dict[int, float], expected: list[float] | None) -> None:
        """One answer."""
        self.seconds.append(took)
        self.ended.append((time.perf_counter(), status))
        self.errors += status != 200
        self.documents += len(found)
        if expected is not None:
            self.wrong += status == 200 and found != dict(enumerate(expected))

    def row(self) -> dict[str, Any]:
        """For a table: milliseconds."""
        ordered = sorted(self.seconds)
        share = {
            f"p{p}_ms": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 1) for p in (50, 95, 99)
        }
        each = {"requests": len(ordered), "errors": self.errors, "wrong": self.wrong, **share}
        rates = {
            "requests_per_second": round(len(ordered) / self.elapsed, 2),
            "documents_per_second": round(self.documents / self.elapsed, 2),
        }
        return {**each, **rates}


@contextmanager
def serving(model: str, *options: str, remembers: bool = False) -> Iterator[tuple[int, int]]:
    """A server; its port and its process.

    Args:
        model: that it serves.
        options: of `rerank serve`.
        remembers: answers of before, so that a repeated question is not computed again.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "rerank.cli", "serve", "--model", model, "--port", str(port), *options]
    environment = {
        **({} if remembers else {"RERANK_ANSWERS_KEPT": "0"}),
        "RERANK_LOG_LEVEL": "warning",
        "RERANK_CLIENT_SHARE": "1.0",
        "RERANK_DEADLINE": "600",
        **os.environ,
    }
    with subprocess.Popen(command, env=environment) as process:
        try:
            while _get(port, "/ready")[0] != 200:
                if process.poll() is not None:
                    raise SystemExit(f"the server ended with {process.returncode}")
                time.sleep(0.2)
            yield port, process.pid
        finally:
            process.terminate()


def drive(
    port: int, ask: Ask, clients: int, seconds: float, scores: dict[tuple[str, str], float], seed: int
) -> Outcome:
    """So many clients that ask one request after another for so long, all answers compared with the scores."""
    outcome, lock = Outcome(), threading.Lock()
    started = time.perf_counter()

    def client(number: int) -> None:
        choice = random.Random(1000 * seed + number)
        connection = HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() - started < seconds:
            query, texts = ask(choice)
            expected = [scores[query, text] for text in texts]
            asked = time.perf_counter()
            status, found = post(connection, query, texts)
            took = time.perf_counter() - asked
            with lock:
                outcome.add(took, status, found, expected)
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(client, number) for number in range(clients)]:
            done.result()
    outcome.elapsed = time.perf_counter() - started
    return outcome


def post(connection: HTTPConnection, query: str, texts: list[str]) -> tuple[int, dict[int, float]]:
    """The status, and the score that was measured for each text."""
    body = json.dumps({"query": query, "documents": texts, "raw_scores": True}).encode()
    try:
        connection.request("POST", "/v1/rerank", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except OSError:
        connection.close()
        return 0, {}
    results = answer.get("results", []) if response.status == 200 else []
    return response.status, {result["index"]: result["relevance_score"] for result in results}


def _get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def _metric(port: int, name: str) -> float:
    found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", _get(port, "/metrics")[1], re.M)
    return float(found[1]) if found else 0.0


def _write(kind: str, rows: dict[str, Any], write: bool) -> None:
    from benchmarks.machine import commit, machine

    row = {"benchmark": f"serving {kind}", "commit": commit(), **machine(), **rows}
    click.echo(json.dumps(row, indent=2))
    if write:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The server under load, on loopback; rows go to benchmarks/results/serving.jsonl with --write."""


seconds_option = click.option("--seconds", default=120.0, show_default=True)
write_option = click.option("--write", is_flag=True)


@main.command()
@seconds_option
@click.option("--clients", default=32, show_default=True)
@write_option
def load(seconds: float, clients: int, write: bool) -> None:
    """Clients with mixed sizes: errors, wrong answers, latency, batch fill."""
    texts = Texts.mixed()
    with serving(MODEL) as (port, _):
        before = os.getloadavg()[0]
        outcome = drive(port, texts.several, clients, seconds, texts.scores, seed=1)
        fill = round(_metric(port, "rerank_batch_fill"), 3)
    _write("load", {"clients": clients, "batch_fill": fill, "load_before": round(before, 2), **outcome.row()}, write)


@main.command()
@click.option("--seconds", default=15.0, show_default=True, help="Of each turn.")
@click.option("--turns", default=2, show_default=True)
@click.option("--clients", default=32, show_default=True)
@write_option
def throughput(seconds: float, turns: int, clients: int, write: bool) -> None:
    """Many clients against one request at a time, in turns: one short document, and mixed sizes."""
    rows: dict[str, Any] = {"clients": clients, "load_before": round(os.getloadavg()[0], 2)}
    with serving(MODEL) as (port, _):
        for kind, texts in (("one short document", Texts.short()), ("mixed sizes", Texts.mixed())):
            ask = texts.one if kind == "one short document" else texts.several
            rates: dict[int, list[float]] = {1: [], clients: []}
            errors = wrong = 0
            for turn in range(turns):
                for count in rates:
                    outcome = drive(port, ask, count, seconds, texts.scores, seed=turn)
                    rates[count].append(outcome.documents / outcome.elapsed)
                    errors, wrong = errors + outcome.errors, wrong + outcome.wrong
            one, many = (statistics.median(rates[count]) for count in (1, clients))
            rows[kind] = {
                "alone": round(one, 2),
                "together": round(many, 2),
                "ratio": round(many / one, 3),
                "errors": errors,
                "wrong": wrong,
            }
    _write("throughput", rows, write)


@main.command()
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--clients", default=8, show_default=True)
@write_option
def kill(seconds: float, clients: int, write: bool) -> None:
    """SIGKILL for the busier of two workers half-way: what its clients saw, and when answers came again."""
    texts, killed = Texts.short(), []
    with serving(MODEL, "--workers", "2") as (port, process):

        def strike() -> None:
            os.kill(max(_workers(process), key=_computed), signal.SIGKILL)
            killed.append(time.perf_counter())

        timer = threading.Timer(seconds / 2, strike)
        timer.start()
        outcome = drive(port, texts.one, clients, seconds, texts.scores, seed=1)
        timer.join()
    after = [(ended - killed[0], status) for ended, status in outcome.ended if ended > killed[0]]
    row = {
        "answers_after_the_kill": sum(status == 200 for _, status in after),
        "first_answer_after_s": round(min(ended for ended, status in after if status == 200), 3),
        "failures": sorted((round(ended, 3), status) for ended, status in after if status != 200),
    }
    _write("kill", {"clients": clients, **row, **outcome.row()}, write)


def _workers(process: int) -> list[int]:
    """The processes of a server's that answer; Python's tracker of resources is not one of them."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    command = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
    return [child for child, words in command.items() if "resource_tracker" not in words]


def _computed(process: int) -> int:
    """Ticks of the processor that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@main.command()
@click.option("--requests", default=20_000, show_default=True)
@click.option("--clients", default=8, show_default=True)
@write_option
def memory(requests: int, clients: int, write: bool) -> None:
    """Requests of 2 documents of 32 tokens, all different, to BERT-mini: the resident size over time.

    What a server remembers by default it remembers here, too.
    """
    load_before = os.getloadavg()[0]
    with serving(SMALL, remembers=True) as (port, process):
        sizes, outcome = _sizes(port, process, _words(), requests, clients)
    quarter = len(sizes) // 4
    second, last = statistics.fmean(sizes[quarter : 2 * quarter]), statistics.fmean(sizes[-quarter:])
    row = {
        "second_quarter_mib": round(second, 1),
        "last_quarter_mib": round(last, 1),
        "growth": round(last / second - 1, 4),
        "load_before": round(load_before, 2),
    }
    _write("memory", {"model": SMALL, **row, **outcome.row()}, write)


def _sizes(port: int, process: int, words: list[str], requests: int, clients: int) -> tuple[list[float], Outcome]:
    """The server's resident size after every hundredth request, in MiB."""
    sizes: list[float] = []
    outcome, lock, started = Outcome(), threading.Lock(), time.perf_counter()

    def client(number: int) -> None:
        choice = random.Random(number)
        connection = HTTPConnection("127.0.0.1", port, timeout=120)
        for _ in range(requests // clients):
            query, *texts = (" ".join(choice.choices(words, k=length)) for length in (6, 24, 24))
            asked = time.perf_counter()
            status, found = post(connection, query, list(texts))
            with lock:
                outcome.add(time.perf_counter() - asked, status, found, None)
                if len(outcome.seconds) % 100 == 0:
                    sizes.append(_resident(process))
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(client, number) for number in range(clients)]:
            done.result()
    outcome.elapsed = time.perf_counter() - started
    return sizes, outcome


def _resident(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _words() -> list[str]:
    """Words that the model knows, one token each."""
    import transformers

    from rerank import checkpoints

    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoints.fetch(SMALL))
    return [word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 3]


if __name__ == "__main__":
    main()
