"""`rerank run`: a whole pipeline with one command."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rerank.cli import names
from rerank.cli.evaluate import split_measures
from rerank.cli.journals import check_use, chosen_journal, journal_options, journalled, journals_of, keeps, rerankers_of
from rerank.cli.loading import fetch_reranker
from rerank.cli.places import check_new_file
from rerank.cli.reranking import closing, interruptible, reranked
from rerank.cli.screen import Screen, with_screen, wrong_usage
from rerank.errors import InputError
from rerank.pipeline import NO_EXCLUSIONS, Pipeline, Stage
from rerank.types import Ranking

if TYPE_CHECKING:
    from rerank.cost import Ledger
    from rerank.datasets import Dataset
    from rerank.evaluate import Evaluation
    from rerank.rerankers.reranker import Reranker

__all__ = ["run"]


@click.command("run")
@click.argument("file", required=False, type=names.file_type, metavar="[FILE.toml]")
@names.dataset_option()
@names.split_option()
@names.retriever_option(required=False)
@click.option(
    "--retrieve-cutoff",
    type=names.count_type,
    metavar="N",
    help="How many documents to retrieve; all of them are reranked.  [default: 1000]",
)
@names.model_option(required=False, help="The reranker's checkpoint: a name, a hub id, or a folder.")
@names.method_options()
@names.algorithm_option()
@names.judge_options
@names.token_options
@names.long_document_options
@names.calibration_options
@names.budget_options
@names.device_options
@click.option("--keep", type=names.count_type, metavar="N", help="Write the best N of each query alone.")
@names.output_option("The run, in TREC's format.")
@journal_options
@click.option("--evaluate", "evaluated", is_flag=True, help="Evaluate the retriever's ranking and the final one.")
@names.measures_option()
@with_screen
def run(
    *,
    screen: Screen,
    file: Path | None,
    dataset: str,
    split: str | None,
    output: Path,
    keep: int | None,
    journal: Path | None,
    no_journal: bool,
    evaluated: bool,
    measures: tuple[str, ...],
    **flags: Any,
) -> None:
    """Retrieve and rerank with a pipeline, from a TOML file or from flags.

    Shows what each stage cost. A pipeline with several stages that ask a model keeps a journal for each:
    OUTPUT.2.journal is that of its second stage.

    \b
    Examples:
        rerank run configs/bm25-cross-encoder.toml --dataset noveleval --output reranked.trec --evaluate
        rerank run --dataset noveleval --retriever bm25 --retrieve-cutoff 20 --output reranked.trec \\
            --model cross-encoder/ms-marco-MiniLM-L12-v2
    """
    from rerank.datasets import Dataset
    from rerank.io import write_run

    if measures and not evaluated:
        raise wrong_usage("--measures is of no use without --evaluate")
    check_new_file(output, file)
    record = chosen_journal(output, journal, no_journal, file)
    tables = _from_file(file, flags) if file is not None else _from_flags(flags)
    check_use(tables, journal, no_journal)
    tables = journalled(tables, record)
    loaded = Dataset.load(dataset, split)
    asked = _checked_measures(measures, loaded) if evaluated else []
    where = str(file or "the options")
    Pipeline.check(tables, loaded, where=where)
    read = [file, *(Path(table[key]) for table in tables for key in ("path", "index") if key in table)]
    check_new_file(output, *read)
    journals = journals_of(tables, output, read)
    _fetch(tables, screen)
    with interruptible(*journals), _watched(tables, loaded, where, screen) as pipeline:
        pipeline = pipeline if keep is None else pipeline % keep
        rankings = pipeline.run(loaded.queries, exclude=loaded.excluded)
        write_run(output, rankings)
    if evaluated:
        _check_judged(rankings, loaded)
    found = _evaluated(pipeline, rankings, loaded, asked) if evaluated else {}
    _close(pipeline, found, output, screen)
    for path in journals:
        screen.say(keeps(path))


@dataclass(frozen=True)
class PipelineFile:
    """What a pipeline's file may hold."""

    stage: Any = ()


def _from_file(file: Path, flags: Mapping[str, Any]) -> list[dict[str, Any]]:
    from rerank import config

    if chosen := [key for key, value in flags.items() if value is not None]:
        raise wrong_usage(f"{names.flag(chosen[0])} and a file exclude each other; write it into {file}")
    stages = config.read(PipelineFile, file).stage
    return stages if isinstance(stages, list) else []


def _from_flags(flags: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables that a file would hold."""
    options = {key: value for key, value in flags.items() if value is not None}
    if "retriever" not in options:
        raise wrong_usage("give a pipeline: a FILE.toml, or --retriever (and --model)")
    first = {"retriever": options.pop("retriever")}
    if "retrieve_cutoff" in options:
        first["cutoff"] = options.pop("retrieve_cutoff")
    if "model" in options:
        name, given = names.asked(options.pop("model"), options.pop("method", None), options)
        return [first, {"reranker": name, **given}]
    if options:
        raise wrong_usage(f"{names.flag(next(iter(options)))} is of no use without --model")
    return [first]


def _fetch(tables: Sequence[Mapping[str, Any]], screen: Screen) -> None:
    """Have every model here, and check what a download alone can tell."""
    for table in rerankers_of(tables):
        fetch_reranker(table["reranker"], table, screen)


class Watched(Stage):
    """A reranker with a progress bar, which remembers what it was given.

    Args:
        reranker: that is watched.
        screen: where the bar is.
        checked: refuse ids that cannot stand in a TREC file before anything is asked, and not at the end.
    """

    def __init__(self, reranker: Reranker, screen: Screen, *, checked: bool = True) -> None:
        self._checked = checked
        self.reranker, self.name, self._screen = reranker, reranker.name, screen
        self.given: list[Ranking] = []

    @property
    def ledger(self) -> Ledger:
        """What it has cost."""
        return self.reranker.ledger

    @property
    def fetches(self) -> bool:
        """Whether it brings in documents of its own."""
        return self.reranker.fetches

    def rerank(
        self, rankings: Sequence[Ranking], *, exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS
    ) -> list[Ranking]:
        """See `rerank.rerankers.reranker.Reranker`."""
        from rerank.io import run_scores

        if self._checked:
            run_scores(rankings)
        self.given = list(rankings)
        return reranked(self.reranker, rankings, self._screen, exclude=exclude)


@contextmanager
def _watched(tables: list[dict[str, Any]], dataset: Dataset, where: str, screen: Screen) -> Iterator[Pipeline]:
    """The pipeline with its rerankers watched, and closed at the end."""
    from rerank.rerankers.reranker import Reranker

    with ExitStack() as stack:
        steps = []
        for step in Pipeline.build(tables, dataset, where=where).steps:
            if isinstance(step.stage, Reranker):
                step = replace(step, stage=Watched(stack.enter_context(closing(step.stage, screen)), screen))
            elif hasattr(step.stage, "journal"):
                stack.enter_context(closing(step.stage, screen))
            steps.append(step)
        yield Pipeline(tuple(steps))


def _checked_measures(measures: Sequence[str], dataset: Dataset) -> list[str]:
    """The measures, known to work before the long part begins."""
    from rerank.evaluate import evaluate

    if not dataset.qrels:
        raise InputError(f"dataset {dataset.name!r} has no judgments; leave out --evaluate")
    asked = split_measures(measures) or list(dataset.measures)
    evaluate({"q": {"d": 1}}, {"q": {"d": 1.0}}, asked)
    return asked


def _check_judged(rankings: Sequence[Ranking], dataset: Dataset) -> None:
    """Refuse judgments of another collection, whose zeros say nothing; looked up only where they name nothing found."""
    named = (dataset.qrels.get(ranking.query.query_id, {}) for ranking in rankings)
    if all(
        judged.keys().isdisjoint(candidate.document.doc_id for candidate in ranking)
        for judged, ranking in zip(named, rankings, strict=True)
    ):
        dataset.missing_judged()


def _evaluated(
    pipeline: Pipeline, rankings: list[Ranking], dataset: Dataset, measures: list[str]
) -> dict[str, Evaluation]:
    """The final ranking, and before it what the first reranker was given."""
    from rerank.evaluate import evaluate

    first = next((step.stage for step in pipeline.steps if isinstance(step.stage, Watched)), None)
    systems = {} if first is None else {str(pipeline.steps[0]): first.given}
    systems[pipeline.name] = rankings
    return {
        name: evaluate(dataset.qrels, {ranking.query.query_id: ranking for ranking in ranked}, measures)
        for name, ranked in systems.items()
    }


def _close(pipeline: Pipeline, found: Mapping[str, Evaluation], output: Path, screen: Screen) -> None:
    from rerank.report import ledger_table, summarise, table

    baseline = next(iter(found)) if len(found) > 1 else None
    ledgers = [{"stage": name, "ledger": ledger.as_dict()} for name, ledger in pipeline.ledgers]
    summary = {"evaluation": summarise(found, baseline).as_dict()} if found else {}
    screen.answer({"output": str(output), "pipeline": pipeline.name, "stages": ledgers, **summary})
    if found and not screen.as_json:
        screen.show(table(found, baseline))
    for name, ledger in pipeline.ledgers:
        screen.say(name)
        screen.add(ledger_table(ledger))
    screen.say(f"wrote {output}: {pipeline.name}")
