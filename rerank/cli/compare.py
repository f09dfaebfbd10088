"""`rerank compare`: two or more runs against the first, without running anything again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rerank.cli import names
from rerank.cli.evaluate import judgments_of, names_of, split_measures
from rerank.cli.places import check_new_file
from rerank.cli.screen import Screen, with_screen, wrong_usage
from rerank.errors import InputError

if TYPE_CHECKING:
    from rerank.report import Change, Sheet
    from rerank.types import Qrels, Scores

__all__ = ["compare"]

Changed = tuple["list[Change]", "list[Change]"]
Texts = tuple[Mapping[str, str], Mapping[str, str]]


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, type=names.file_type, metavar="BASELINE.trec RUN.trec...")
@names.dataset_option(required=False)
@names.split_option()
@click.option(
    "--qrels", type=names.file_type, metavar="FILE", help="Judgments, TREC's or BEIR's, instead of a dataset's."
)
@names.measures_option()
@click.option("--queries", type=names.Count(0), metavar="N", default=5, show_default=True, help="Most helped and hurt.")
@click.option("--seed", type=names.Count(0), metavar="N", default=0, show_default=True, help="Of intervals and tests.")
@click.option("--latex", type=names.file_type, metavar="FILE", help="Write all tables as LaTeX.")
@click.option(
    "--csv", "csv_file", type=names.file_type, metavar="FILE", help="Write the numbers as CSV; FILE.queries: by query."
)
@with_screen
def compare(
    *,
    screen: Screen,
    runs: tuple[Path, ...],
    dataset: str | None,
    split: str | None,
    qrels: Path | None,
    measures: tuple[str, ...],
    queries: int,
    seed: int,
    latex: Path | None,
    csv_file: Path | None,
) -> None:
    """Compare runs with the first of them.

    Measures and differences with bootstrap intervals, the paired randomisation test and the t-test beside it, both
    Holm-corrected; how much of each list was judged (Judged@k beside every measure at k); the queries most helped and
    most hurt by the first measure, with the documents that moved.

    \b
    Examples:
        rerank compare bm25.trec reranked.trec --dataset noveleval
        rerank compare a.trec b.trec c.trec --qrels qrels.tsv --measures nDCG@10 --latex table.tex --csv table.csv
    """
    if (dataset is None) == (qrels is None):
        raise wrong_usage("give either --dataset or --qrels: where the judgments are")
    by_query = None if csv_file is None else csv_file.with_suffix(f".queries{csv_file.suffix}")
    _check(runs, [latex, csv_file, by_query], qrels)
    judged, official = judgments_of(dataset, split, qrels)
    found = _Compared(judged, runs, split_measures(measures) or official, queries, seed)
    texts = found.texts(dataset, split)
    if latex is not None:
        _write(latex, "\n".join(sheet.latex() for sheet in found.sheets(texts)))
    if csv_file is not None and by_query is not None:
        _write(csv_file, found.numbers().csv())
        _write(by_query, found.per_query().csv())
    screen.answer(found.as_dict())
    if not screen.as_json:
        screen.show(*(sheet.table() for sheet in found.sheets(texts)))


class _Compared:
    """The runs, evaluated; the first is the baseline."""

    def __init__(self, judged: Qrels, runs: Sequence[Path], measures: Sequence[str], queries: int, seed: int) -> None:
        from rerank.evaluate import evaluate, with_judged
        from rerank.io import read_run
        from rerank.report import summarise

        measures = with_judged(measures)
        named = names_of(runs)
        self.judged, self.measure, self.queries = judged, measures[0], queries
        self.runs: dict[str, Scores] = {named[path]: read_run(path) for path in runs}
        _check_documents(self.runs, judged)
        self.evaluations = {name: evaluate(judged, run, measures) for name, run in self.runs.items()}
        self.baseline = next(iter(self.runs))
        self.summary = summarise(self.evaluations, self.baseline, seed=seed)
        self.changes = {name: self._changes(name) for name in self.runs if name != self.baseline}

    def _changes(self, name: str) -> Changed:
        from rerank.report import changes

        both = self.evaluations[self.baseline], self.evaluations[name]
        runs = self.runs[self.baseline], self.runs[name]
        cutoff = re.search(r"@(\d+)$", self.measure)
        top = int(cutoff[1]) if cutoff else 10
        return changes(both, runs, self.judged, self.measure, queries=self.queries, top=top)

    def texts(self, dataset: str | None, split: str | None) -> Texts:
        """Of the queries, and of the documents that moved; none where there is no dataset."""
        from rerank.datasets import Dataset

        if dataset is None:
            return {}, {}
        loaded = Dataset.load(dataset, split)
        moved = {one.doc_id for found in self.changes.values() for each in found for c in each for one in c.moved}
        documents = loaded.source.find(moved) if moved else {}
        return (
            {query.query_id: query.text for query in loaded.queries},
            {doc_id: document.full_text for doc_id, document in documents.items()},
        )

    def sheets(self, texts: Texts) -> list[Sheet]:
        """All tables, as a paper prints them."""
        from rerank.report import changes_sheet, differences_sheet

        moved = [
            changes_sheet(name, self.baseline, self.measure, found, *texts) for name, found in self.changes.items()
        ]
        return [differences_sheet(self.summary), *(moved if self.queries else [])]

    def numbers(self) -> Sheet:
        """Every number of the first table."""
        from rerank.report import numbers_sheet

        return numbers_sheet(self.summary)

    def per_query(self) -> Sheet:
        """Every query's value."""
        from rerank.report import per_query_sheet

        return per_query_sheet(self.evaluations)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        from dataclasses import asdict

        said = {
            name: {"helped": [asdict(one) for one in helped], "hurt": [asdict(one) for one in hurt]}
            for name, (helped, hurt) in self.changes.items()
        }
        return {**self.summary.as_dict(), "measure": self.measure, "changes": said}


def _check(runs: Sequence[Path], outputs: Sequence[Path | None], qrels: Path | None) -> None:
    if len(runs) < 2:
        raise wrong_usage("give at least two runs: the baseline and what is compared with it")
    if len(set(runs)) < len(runs):
        raise InputError(f"the run {next(run for run in runs if runs.count(run) > 1)} is given twice")
    for number, path in enumerate(outputs):
        if path is not None:
            check_new_file(path, *runs, qrels, *outputs[:number])


def _check_documents(runs: Mapping[str, Scores], judged: Qrels) -> None:
    """Refuse a run of another collection whose queries happen to be called alike.

    Raises:
        InputError: when none of its documents was judged for any query that it shares with the judgments.
    """
    for name, run in runs.items():
        shared = [query_id for query_id in run if judged.get(query_id) and run[query_id]]
        if shared and not any(run[query_id].keys() & judged[query_id].keys() for query_id in shared):
            theirs, ours = next(iter(run[shared[0]])), next(iter(judged[shared[0]]))
            raise InputError(
                f"{name} ranks no judged document: for query {shared[0]!r} it has {theirs!r} …, the judgments have "
                f"{ours!r} …; are both of the same collection?"
            )


def _write(path: Path, text: str) -> None:
    from rerank.io import atomic_write

    with atomic_write(path) as file:
        file.write(text)
