"""`rerank evaluate`: what runs are worth, and how sure the differences are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rerank.cli import names
from rerank.cli.ledgers import efficiency_of
from rerank.cli.places import check_new_file
from rerank.cli.screen import Screen, rows, with_screen, wrong_usage
from rerank.errors import FileError, InputError

if TYPE_CHECKING:
    from rerank.calibration import Quality
    from rerank.efficiency import Efficiency
    from rerank.evaluate import Evaluation
    from rerank.types import Qrels

__all__ = ["evaluate", "judgments_of", "names_of", "split_measures"]

_BETWEEN = re.compile(r"\s+(?![^(]*\))")  # white space, but not inside the brackets of RBP(rel=1, p=0.8)


@click.command("evaluate")
@names.dataset_option(required=False)
@names.split_option()
@click.option(
    "--qrels", type=names.file_type, metavar="FILE", help="Judgments, TREC's or BEIR's, instead of a dataset's."
)
@click.option("--run", "runs", type=names.file_type, multiple=True, metavar="FILE", help="A TREC run; may be repeated.")
@names.measures_option()
@click.option(
    "--baseline",
    type=names.file_type,
    metavar="FILE",
    help="The run that the others are tested against.  [default: the first]",
)
@click.option(
    "--ledger",
    "ledgers",
    type=names.file_type,
    multiple=True,
    metavar="FILE",
    help="What a run cost (`rerank rerank --ledger`): adds quality per PetaFLOP; may be repeated.",
)
@click.option(
    "--probabilities", is_flag=True, help="The runs' scores are probabilities: add ECE and Brier score of each."
)
@click.option("--per-query", is_flag=True, help="Show the value of every query too.")
@click.option("--seed", type=names.Count(0), metavar="N", default=0, show_default=True, help="Of intervals and tests.")
@click.option("--output", "-o", type=names.file_type, metavar="FILE", help="Write the table as Markdown.")
@click.option("--chart", type=names.file_type, metavar="FILE", help="Draw a PNG (needs the 'report' extra).")
@with_screen
def evaluate(
    *,
    screen: Screen,
    dataset: str | None,
    split: str | None,
    qrels: Path | None,
    runs: tuple[Path, ...],
    measures: tuple[str, ...],
    baseline: Path | None,
    ledgers: tuple[Path, ...],
    probabilities: bool,
    per_query: bool,
    seed: int,
    output: Path | None,
    chart: Path | None,
) -> None:
    """Evaluate runs: measures, intervals, and whether differences are real.

    Means are over all judged queries, those missing from a run counted as zero. Intervals are percentile bootstrap
    intervals over queries; p is of the paired randomisation test, the paired t-test beside it, both Holm-corrected.
    Runs are called by their file names, or by their paths where two share one.

    \b
    Examples:
        rerank evaluate --dataset noveleval --run bm25.trec --run reranked.trec
        rerank evaluate --qrels qrels.tsv --run bm25.trec --measures "nDCG@10 RR(rel=2)@10" --json
    """
    if (dataset is None) == (qrels is None):
        raise wrong_usage("give either --dataset or --qrels: where the judgments are")
    for path in (output, chart):
        if path is not None:
            check_new_file(path, *runs, *ledgers, baseline, qrels)
    systems = _systems(runs, baseline)
    judged, official = judgments_of(dataset, split, qrels)
    asked = split_measures(measures) or official
    found = _evaluated(judged, systems, asked, screen)
    first = next(iter(found)) if baseline is not None or len(found) > 1 else None
    efficiency = efficiency_of(found, names_of(systems), ledgers)
    honesty = _honesty(judged, systems) if probabilities else {}
    if output is not None:
        _report(found, efficiency, honesty, first, seed, output)
    if chart is not None:
        from rerank import report

        report.chart(found, asked[0], chart, first, seed=seed)
    _show(found, efficiency, honesty, first, seed, per_query, screen)


def split_measures(measures: Sequence[str]) -> list[str]:
    """Names from repeated options, each of which may hold several."""
    return list(dict.fromkeys(name for text in measures for name in _BETWEEN.split(text.strip()) if name))


def _systems(runs: Sequence[Path], baseline: Path | None) -> list[Path]:
    """The runs to read, the baseline first."""
    systems = [*([baseline] if baseline is not None else []), *runs]
    if not runs:
        raise wrong_usage("give at least one --run")
    if len(set(runs)) < len(runs):
        raise InputError(f"the run {next(run for run in runs if runs.count(run) > 1)} is given twice")
    return list(dict.fromkeys(systems))


def judgments_of(dataset: str | None, split: str | None, qrels: Path | None) -> tuple[Qrels, list[str]]:
    """The judgments, and the measures that go with them."""
    if qrels is not None:
        from rerank.io import read_qrels

        return read_qrels(qrels), ["nDCG@10"]
    from rerank.datasets import Dataset

    loaded = Dataset.load(dataset or "", split)
    if not loaded.qrels:
        raise FileError(f"dataset {loaded.name!r} has no judgments; give some with --qrels")
    return loaded.qrels, list(loaded.measures)


def _evaluated(
    judged: Qrels, systems: Sequence[Path], measures: Sequence[str], screen: Screen
) -> dict[str, Evaluation]:
    from rerank.evaluate import evaluate
    from rerank.io import read_run

    names, found = names_of(systems), {}
    for path in systems:
        run = read_run(path)
        if not any(doc_id in run.get(query_id, ()) for query_id, documents in judged.items() for doc_id in documents):
            screen.say(f"note: no judgment names a document of {path}; see that both are of one collection")
        found[names[path]] = evaluate(judged, run, measures)
    return found


def _honesty(judged: Qrels, systems: Sequence[Path]) -> dict[str, Quality]:
    """How good the probabilities of each run are."""
    from rerank.calibration import quality_of
    from rerank.io import read_run

    found = {}
    for path, name in names_of(systems).items():
        try:
            found[name] = quality_of(judged, read_run(path))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return found


def names_of(systems: Sequence[Path]) -> dict[Path, str]:
    """What tables call the runs: their file names, or their paths where two share one."""
    distinct = len({path.name for path in systems}) == len(systems)
    return {path: path.name if distinct else str(path) for path in systems}


def _report(
    found: Mapping[str, Evaluation],
    efficiency: Mapping[str, Sequence[Efficiency]],
    honesty: Mapping[str, Quality],
    baseline: str | None,
    seed: int,
    output: Path,
) -> None:
    from rerank.io import atomic_write
    from rerank.report import efficiency_markdown, markdown, probability_markdown

    with atomic_write(output) as file:
        file.write(markdown(found, baseline, seed=seed))
        if efficiency:
            file.write("\n" + efficiency_markdown(efficiency))
        if honesty:
            file.write("\n" + probability_markdown(honesty))


def _show(
    found: Mapping[str, Evaluation],
    efficiency: Mapping[str, Sequence[Efficiency]],
    honesty: Mapping[str, Quality],
    baseline: str | None,
    seed: int,
    per_query: bool,
    screen: Screen,
) -> None:
    from rerank.report import efficiency_table, probability_table, summarise, table

    if screen.as_json:
        bought = {name: [one.as_dict() for one in each] for name, each in efficiency.items()}
        summary = summarise(found, baseline, seed=seed).as_dict() | ({"efficiency": bought} if bought else {})
        summary |= {"probabilities": {name: asdict(each) for name, each in honesty.items()}} if honesty else {}
        screen.answer(_as_dict(found, summary, per_query))
        return
    if per_query:
        screen.show(*(_per_query(found, measure) for measure in next(iter(found.values())).measures))
    screen.show(table(found, baseline, seed=seed))
    if efficiency:
        screen.show(efficiency_table(efficiency))
    if honesty:
        screen.show(probability_table(honesty))


def _as_dict(found: Mapping[str, Evaluation], summary: dict[str, Any], per_query: bool) -> dict[str, Any]:
    """The summary; with `per_query` every query's value beside it."""
    if not per_query:
        return summary
    return {**summary, "per_query": {name: evaluation.as_dict()["queries"] for name, evaluation in found.items()}}


def _per_query(found: Mapping[str, Evaluation], measure: str) -> Any:
    query_ids = next(iter(found.values())).query_ids
    values = {name: evaluation.values(measure) for name, evaluation in found.items()}
    lines = [[query_id, *(f"{values[name][query_id]:.4f}" for name in values)] for query_id in query_ids]
    return rows([f"{measure} of query", *values], lines)
