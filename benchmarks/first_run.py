"""The cross-encoder path against sentence-transformers, on the same pairs, in one run.

    python benchmarks/first_run.py            # about three minutes on two cores
    python benchmarks/first_run.py --repeats 3 --pairs 60   # a look

Workload: NovelEval's 21 queries with their BM25 top 20 (texts in, scores out), MiniLM-L12 in float32 on the CPU, at
most 256 tokens. sentence-transformers runs at its own best batch size, found first. The two take turns; the figure is
the median of the ratios of neighbouring turns, with a bootstrap interval. Nothing is reported when scores differ by
more than 1e-4. A row is appended to benchmarks/results/first_run.jsonl.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from scipy import stats

from rerank import Dataset, checkpoints
from rerank.cost import Ledger
from rerank.judges.cross_encoder import CrossEncoder
from rerank.questions import Grade
from retrievers.bm25 import BM25

RESULTS = Path(__file__).parent / "results" / "first_run.jsonl"
MODEL = "cross-encoder/ms-marco-MiniLM-L12-v2"
BATCH_SIZES = (4, 8, 16, 32, 64)
TOLERANCE = 1e-4


@click.command()
@click.option("--pairs", default=420, help="How many (query, document) pairs.")
@click.option("--max-tokens", default=256, help="Tokens of query and document together.")
@click.option("--repeats", default=7, help="Turns of each.")
@click.option("--token-budget", type=int, help="Of ours; its default when nothing is said.")
def main(pairs: int, max_tokens: int, repeats: int, token_budget: int | None) -> None:
    """Time ours and sentence-transformers on the same pairs, and say the ratio."""
    from sentence_transformers import CrossEncoder as Peer

    folder = checkpoints.fetch(MODEL)
    grades = candidates()[:pairs]
    texts = [(grade.query.text, grade.document.full_text) for grade in grades]
    judge = CrossEncoder(folder, max_tokens=max_tokens, token_budget=token_budget, device="cpu", dtype="float32")
    peer = Peer(str(folder), max_length=max_tokens, activation_fn=torch.nn.Identity(), device="cpu")

    def ours() -> list[float]:
        answers = dict(judge.answer(grades, Ledger()))
        return [answers[index].score for index in range(len(grades))]  # type: ignore[union-attr]

    def theirs(batch_size: int) -> list[float]:
        return [float(s) for s in peer.predict(texts, batch_size=batch_size, show_progress_bar=False)]

    worst = max(abs(a - b) for a, b in zip(ours(), theirs(32), strict=True))
    if worst > TOLERANCE:
        sys.exit(f"scores differ by {worst:.1e}, more than {TOLERANCE:.0e}: nothing to report")
    best = min(BATCH_SIZES, key=lambda size: seconds(lambda: theirs(size)))
    turns = [(seconds(ours), seconds(lambda: theirs(best))) for _ in range(repeats)]
    row = report(turns, grades, judge, worst=worst, best=best, max_tokens=max_tokens)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    click.echo(json.dumps(row, indent=1))


def candidates() -> list[Grade]:
    """Every query of NovelEval with what BM25 finds for it."""
    dataset = Dataset.load("noveleval")
    with tempfile.TemporaryDirectory() as folder:
        rankings = BM25.build(dataset.documents(), Path(folder) / "index").retrieve(dataset.queries, 20)
        return [Grade(ranking.query, document) for ranking in rankings for document in ranking.documents]


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def report(
    turns: list[tuple[float, float]],
    grades: list[Grade],
    judge: CrossEncoder,
    *,
    worst: float,
    best: int,
    max_tokens: int,
) -> dict[str, Any]:
    """The row of one run: a ratio above 1 means that ours is faster."""
    ledger = Ledger()
    list(judge.answer(grades, ledger))
    ratios = np.array([theirs / ours for ours, theirs in turns])
    spread = stats.bootstrap((ratios,), np.median, method="percentile", rng=np.random.default_rng(0))
    own = statistics.median(ours for ours, _ in turns)
    total = ledger.total
    return {
        "workload": f"NovelEval, BM25 top 20, {len(grades)} pairs, MiniLM-L12, at most {max_tokens} tokens, text in",
        "ratio": round(float(np.median(ratios)), 3),
        "interval": [round(float(spread.confidence_interval.low), 3), round(float(spread.confidence_interval.high), 3)],
        "repeats": len(turns),
        "peer": f"sentence-transformers {importlib.metadata.version('sentence-transformers')}, batch size {best}",
        "seconds": {
            "ours": round(own, 3),
            "peer": round(statistics.median(theirs for _, theirs in turns), 3),
        },
        "pairs_per_second": round(len(grades) / own, 1),
        "tokens_per_second": round(total["tokens_real"] / own),
        "gflop_per_second": round(total["flops"] / own / 1e9, 1),
        "padding": round(ledger.padding, 4),
        "token_budget": judge.token_budget,
        "largest_difference": worst,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
    }


def commit() -> str:
    """The commit that was measured, with + when files have changed since."""
    here = Path(__file__).parent
    name = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True
    ).stdout.strip()
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "--", "../rerank", "."], cwd=here, capture_output=True, text=True
    ).stdout
    return name + "+" if dirty.strip() else name


def machine() -> dict[str, Any]:
    """What it ran on."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": cpu[0].split(":", 1)[1].strip() if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
    }


if __name__ == "__main__":
    main()
