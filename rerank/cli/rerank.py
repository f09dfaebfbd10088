"""`rerank rerank`: candidates in, candidates in a better order out; what was computed survives a kill."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rerank.cli import names
from rerank.cli.journals import chosen_journal, journal_options, keeps
from rerank.cli.loading import check_reranker, fetch_reranker
from rerank.cli.places import check_new_file
from rerank.cli.reranking import closing, interruptible, reranked
from rerank.cli.screen import Screen, with_screen, wrong_usage
from rerank.pipeline import NO_EXCLUSIONS
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
            raise wrong_usage("give either --run with --dataset, or --requests")
        if self.run is not None and self.dataset is None:
            raise wrong_usage("--run needs --dataset, where the texts of its documents are")
        if self.requests is not None and (self.dataset or self.split):
            raise wrong_usage("--requests carries its own texts; leave out --dataset and --split")

    @property
    def path(self) -> Path:
        """The file that is read."""
        path = self.run or self.requests
        assert path is not None
        return path

    def rankings(self) -> tuple[list[Ranking], Mapping[str, Collection[str]]]:
        """The candidates with their texts, and what the benchmark excludes for each query."""
        from rerank.datasets import Dataset
        from rerank.io import read_requests, read_run

        if self.requests is not None:
            return list(read_requests(self.requests)), NO_EXCLUSIONS
        scores = read_run(self.path)  # before the dataset, which may have to be downloaded
        dataset = Dataset.load(self.dataset or "", self.split)
        return dataset.rankings(scores), dataset.excluded


@click.command("rerank")
@names.dataset_option(required=False)
@names.split_option()
@click.option("--run", type=names.file_type, metavar="FILE", help="The TREC run to rerank.")
@click.option("--requests", type=names.file_type, metavar="FILE", help="JSONL requests to rerank, with their texts.")
@names.model_option()
@names.method_options()
@names.algorithm_option()
@names.judge_options
@names.token_options
@names.long_document_options
@names.calibration_options
@names.budget_options
@names.device_options
@click.option(
    "--cutoff",
    type=names.count_type,
    metavar="N",
    help="Rerank the first N of each query and keep the others below.  [default: all]",
)
@click.option("--keep", type=names.count_type, metavar="N", help="Write the best N of each query alone.")
@names.output_option("The new run; a name in .jsonl or .jsonl.gz is written as requests, with the texts.")
@journal_options
@click.option("--ledger", type=names.file_type, metavar="FILE", help="Write what each query cost, as JSON.")
@with_screen
def rerank(
    *,
    screen: Screen,
    dataset: str | None,
    split: str | None,
    run: Path | None,
    requests: Path | None,
    model: str,
    method: str | None,
    cutoff: int | None,
    keep: int | None,
    output: Path,
    journal: Path | None,
    no_journal: bool,
    ledger: Path | None,
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
        rerank rerank --requests requests.jsonl --output reranked.jsonl \\
            --model ./my-llm --method setwise-heapsort --set children=9 --head 5
    """
    from rerank.io import run_scores, write_ledger

    source = Source(dataset, split, run, requests)
    check_new_file(output, source.path)
    record = chosen_journal(output, journal, no_journal, source.path)
    if ledger is not None:
        check_new_file(ledger, source.path, output, record)
    name, given = names.asked(model, method, options)
    check_reranker(name, given)
    rankings, exclude = source.rankings()
    if not _is_jsonl(output):
        run_scores(rankings)  # ids that cannot stand in a TREC file are seen now and not at the end
    fetch_reranker(name, given, screen)
    with interruptible(record), closing(_loaded(name, record, given), screen) as reranker:
        ranked = reranked(reranker, rankings, screen, cutoff=cutoff, exclude=exclude)
        _write(output, [ranking[:keep] for ranking in ranked], _tag(reranker.name))
    if ledger is not None:
        write_ledger(ledger, reranker.ledger, output=output)
    _close(reranker, ranked, output, record, screen)


def _loaded(name: str, journal: Path | None, options: dict[str, Any]) -> Reranker:
    from rerank.rerankers.reranker import Reranker

    return Reranker(name, journal=journal, **options)


def _write(output: Path, rankings: list[Ranking], tag: str) -> None:
    from rerank.io import write_requests, write_run

    if _is_jsonl(output):
        write_requests(output, rankings)
    else:
        write_run(output, rankings, tag)


def _is_jsonl(output: Path) -> bool:
    return output.name.removesuffix(".gz").endswith(".jsonl")


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
            "method": reranker.recipe.method,
            "algorithm": reranker.algorithm.name,
            "options": reranker.options,
            "ledger": reranker.ledger.as_dict(),
        }
    )
    screen.add(ledger_table(reranker.ledger))
    screen.say(f"wrote {output}: {len(ranked):,} queries")
    if journal is not None:
        screen.say(keeps(journal))
