"""`rerank rerank`: candidates in, candidates in a better order out; what was computed survives a kill."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rerank.cli import names
from rerank.cli.loading import check_model, fetch_model
from rerank.cli.places import check_new_file, is_device
from rerank.cli.screen import Screen, with_screen
from rerank.errors import FileError, InputError
from rerank.types import Ranking

if TYPE_CHECKING:
    from rerank.rerankers.reranker import Reranker

__all__ = ["rerank"]


@dataclass(frozen=True)
class Source:
    """Where the candidates come from: a run and its dataset, or requests."""

    dataset: str | None
    split: str | None
    run: Path | None
    requests: Path | None

    def __post_init__(self) -> None:
        if (self.requests is None) == (self.run is None):
            raise click.UsageError("give either --run with --dataset, or --requests")
        if self.run is not None and self.dataset is None:
            raise click.UsageError("--run needs --dataset, where the texts of its documents are")
        if self.requests is not None and (self.dataset or self.split):
            raise click.UsageError("--requests carries its own texts; leave out --dataset and --split")

    @property
    def path(self) -> Path:
        """The file that is read."""
        path = self.run or self.requests
        assert path is not None
        return path

    def rankings(self) -> list[Ranking]:
        """The candidates with their texts."""
        from rerank.datasets import Dataset
        from rerank.io import read_requests, read_run

        if self.requests is not None:
            return list(read_requests(self.requests))
        scores = read_run(self.path)  # before the dataset, which may have to be downloaded
        return Dataset.load(self.dataset or "", self.split).rankings(scores)


@click.command("rerank")
@names.dataset_option(required=False)
@names.split_option()
@click.option("--run", type=names.file_type, metavar="FILE", help="The TREC run to rerank.")
@click.option("--requests", type=names.file_type, metavar="FILE", help="JSONL requests to rerank, with their texts.")
@names.model_option()
@names.algorithm_option()
@names.token_options
@names.device_options
@click.option(
    "--cutoff",
    type=click.IntRange(min=1),
    metavar="N",
    help="Rerank the first N of each query and keep the others below.  [default: all]",
)
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Write the best N of each query alone.")
@names.output_option("The new run; a name in .jsonl or .jsonl.gz is written as requests, with the texts.")
@click.option(
    "--journal", type=names.file_type, metavar="FILE", help="The record of answers.  [default: OUTPUT.journal]"
)
@click.option("--no-journal", is_flag=True, help="Keep no record: an interrupted command begins anew.")
@with_screen
def rerank(
    *,
    screen: Screen,
    dataset: str | None,
    split: str | None,
    run: Path | None,
    requests: Path | None,
    model: str,
    cutoff: int | None,
    keep: int | None,
    output: Path,
    journal: Path | None,
    no_journal: bool,
    **options: Any,
) -> None:
    """Rerank a run, or requests that carry their texts.

    Every answer of the model is appended to a journal as it comes. After an interruption of any kind the same command
    goes on where it was, and its output is the same byte for byte.

    \b
    Examples:
        rerank rerank --dataset noveleval --run bm25.trec --cutoff 20 --output reranked.trec \\
            --model cross-encoder/ms-marco-MiniLM-L12-v2
        rerank rerank --requests requests.jsonl --model ./my-reranker --output reranked.jsonl
    """
    source = Source(dataset, split, run, requests)
    record = _journal(output, journal, no_journal)
    check_new_file(output, source.path)
    if record is not None:
        _check_journal(record, output, source.path)
    check_model(model, options["algorithm"])
    rankings = source.rankings()
    fetch_model(model, screen)
    with _interruptible(record), _loaded(model, record, screen, options) as reranker:
        ranked = _reranked(reranker, rankings, cutoff, screen)
        _write(output, [ranking[:keep] for ranking in ranked], _tag(reranker.name))
    _close(reranker, ranked, output, record, screen)


def _journal(output: Path, journal: Path | None, no_journal: bool) -> Path | None:
    if journal is not None and no_journal:
        raise click.UsageError("--journal and --no-journal exclude each other")
    if no_journal or journal is not None:
        return journal
    return None if is_device(output) else output.with_name(f"{output.name}.journal")


def _check_journal(journal: Path, output: Path, read: Path) -> None:
    if is_device(journal):
        raise FileError(f"the journal {journal} is no ordinary file, and could not be read again; choose another")
    if journal.resolve() == output.resolve():
        raise InputError(f"--journal and --output are both {output}; give the journal another name")
    check_new_file(journal, read)


@contextmanager
def _interruptible(journal: Path | None) -> Iterator[None]:
    """Ctrl-C is no bug: say what it leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        kept = f"the journal {journal} keeps what was computed: the same command goes on from there"
        raise click.Abort(kept if journal is not None else "there is no journal, so nothing is kept") from None


@contextmanager
def _loaded(name: str, journal: Path | None, screen: Screen, options: dict[str, Any]) -> Iterator[Reranker]:
    from rerank.rerankers.reranker import Reranker

    reranker = Reranker(name, journal=journal, **options)
    if reranker.journal is not None and reranker.journal.recovered:
        screen.say(f"{journal}: going on from {reranker.ledger.notes['journal']}")
    try:
        yield reranker
    finally:
        reranker.close()


def _reranked(reranker: Reranker, rankings: Sequence[Ranking], cutoff: int | None, screen: Screen) -> list[Ranking]:
    pairs = sum(len(ranking[:cutoff]) for ranking in rankings)
    with screen.progress("reranking", "questions") as on_progress:

        def on_answer(answered: int, asked: int) -> None:
            """The scheduler opens questions little by little; where each pair is asked once, all are known ahead."""
            left = pairs - int(reranker.ledger.total.get("journal_hits", 0))
            on_progress(answered, max(asked, left) if reranker.algorithm.name == "pointwise" else asked)

        return reranker.rerank(rankings, cutoff=cutoff, on_answer=on_answer)


def _write(output: Path, rankings: list[Ranking], tag: str) -> None:
    from rerank.io import write_requests, write_run

    if output.name.removesuffix(".gz").endswith(".jsonl"):
        write_requests(output, rankings)
    else:
        write_run(output, rankings, tag)


def _tag(name: str) -> str:
    return re.sub(r"\s+", "_", name) or "rerank"


def _close(reranker: Reranker, ranked: list[Ranking], output: Path, journal: Path | None, screen: Screen) -> None:
    from rerank.report import ledger_table

    screen.answer(
        {
            "output": str(output),
            "journal": None if journal is None else str(journal),
            "queries": len(ranked),
            "model": reranker.name,
            "algorithm": reranker.algorithm.name,
            "ledger": reranker.ledger.as_dict(),
        }
    )
    screen.add(ledger_table(reranker.ledger))
    screen.say(f"wrote {output}: {len(ranked):,} queries")
    if journal is not None:
        screen.say(
            f"the journal {journal} keeps every answer: the same command again answers from it; remove it at will"
        )
