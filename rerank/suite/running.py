"""Every system over every dataset of a suite; what is finished is not done again, what was begun goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from rerank.datasets import Dataset
from rerank.errors import FileError, InputError, RerankError
from rerank.evaluate import evaluate
from rerank.io import read_run, write_ledger, write_run
from rerank.pipeline import Pipeline
from rerank.report import per_query_sheet
from rerank.suite.asked import Asked, Systems, Tables
from rerank.suite.costs import Cost, cost_of
from rerank.suite.place import Place, digest
from rerank.suite.results import DatasetResult, Results
from rerank.suite.suites import Suite
from rerank.types import Ranking, Scores

__all__ = ["Watch", "evaluate_suite"]

Watch: TypeAlias = Callable[[Pipeline], Pipeline]


def evaluate_suite(
    suite: Suite,
    systems: Systems,
    folder: str | Path,
    *,
    baseline: str | None = None,
    measures: Sequence[str] = (),
    split: str | None = None,
    cutoffs: Mapping[str, int] = MappingProxyType({}),
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    watch: Watch = lambda pipeline: pipeline,
) -> Results:
    """Run systems over a suite, and evaluate them.

    A dataset that cannot be had is named in `Results.unavailable` with the reason. First stages that are the same in
    several systems retrieve once. Documents that a benchmark excludes for a query are not retrieved for it.

    Args:
        suite, systems, measures, split, cutoffs, seed: as of `Asked`.
        folder: where everything is written; the same call goes on in it.
        baseline: the system that the others are compared with; the first when left out.
        say: told what is going on, a line at a time.
        watch: may put something in the place of a pipeline's stages, such as one with a progress bar.

    Raises:
        InputError, ConfigError, UnknownName: as `Asked` does; when the folder holds something else; or when no dataset
            of the suite can be had.
    """
    asked = Asked(suite, systems, baseline or "", tuple(measures), split, cutoffs, seed)
    place = Place(Path(folder))
    place.begin(asked.record())
    found: dict[str, DatasetResult] = {}
    unavailable: dict[str, str] = {}
    for name, title in zip(suite.datasets, suite.titles, strict=True):
        try:
            dataset = _loaded(name, split)
        except (RerankError, OSError) as error:
            unavailable[name] = " ".join(str(error).split())
            say(f"{name}: left out: {unavailable[name]}")
            continue
        tables = {system: asked.tables(system, title) for system in systems}
        found[name] = _one(dataset, tables, asked, place, say, watch)
    if not found:
        raise InputError(f"no dataset of {suite.name!r} can be had; {next(iter(unavailable.values()))}")
    return Results(suite, asked.baseline, found, unavailable, seed)


def _loaded(name: str, split: str | None) -> Dataset:
    """A dataset of which queries, judgments and a document are known to be there."""
    dataset = Dataset.load(Path(name) if Path(name).is_absolute() else name, split)
    if not dataset.queries or not dataset.qrels:
        raise FileError(f"dataset {dataset.name!r} has no judgments, and nothing can be evaluated by it")
    if next(dataset.documents(), None) is None:
        raise FileError(f"dataset {dataset.name!r} has no documents")
    return dataset


def _one(
    dataset: Dataset, systems: Systems, asked: Asked, place: Place, say: Callable[[str], None], watch: Watch
) -> DatasetResult:
    """One dataset: what is not there yet is run, then everything is read back and evaluated."""
    place.check_corpus(dataset.name, dataset.corpus_key)
    for name, tables in systems.items():
        if place.run(dataset.name, name).exists():
            say(f"{dataset.name}: {name}: finished before")
            continue
        say(f"{dataset.name}: {name}")
        _run(dataset, name, tables, place, watch)
    runs: dict[str, Scores] = {name: read_run(place.run(dataset.name, name)) for name in systems}
    measures = asked.measures or dataset.measures
    found = {name: evaluate(dataset.qrels, run, measures) for name, run in runs.items()}
    place.write("measures", f"{dataset.name}.csv", text=per_query_sheet(found).csv())
    costs: dict[str, Cost] = {name: cost_of(place.ledgers(dataset.name, name)) for name in systems}
    return DatasetResult.of(dataset, found, runs, costs, asked.baseline)


def _run(dataset: Dataset, name: str, tables: Tables, place: Place, watch: Watch) -> None:
    first, given = _first_stage(dataset, tables[0], place, f"{name}: stage 1")
    parts = _journalled(tables[1:], dataset.name, place)
    resolved, rankings, output = first, given, place.run(dataset.name, name)
    if parts:
        pipeline = Pipeline.build(parts, dataset, where=name)
        resolved = f"{first}\n{_without_journals(pipeline)}"
        with ExitStack() as stack:
            for step in pipeline.steps:
                stack.callback(getattr(step.stage, "close", lambda: None))
            rankings = watch(pipeline).rerank(given, exclude=dataset.excluded)
            for number, step in enumerate(pipeline.steps, start=2):
                if hasattr(step.stage, "ledger"):
                    path = place.path("ledgers", dataset.name, f"{name}.{number}.json")
                    write_ledger(path, step.stage.ledger, output=output.name)
    place.write("pipelines", dataset.name, f"{name}.toml", text=resolved)
    write_run(output, rankings, name)


def _first_stage(dataset: Dataset, table: Mapping[str, Any], place: Place, where: str) -> tuple[str, list[Ranking]]:
    """The resolved first stage and what it found, from the folder where it is there.

    It is read back in either case, so that nothing depends on which it was.
    """
    run, resolved = (place.path("first", dataset.name, f"{digest(table)}.{ending}") for ending in ("trec", "toml"))
    if not run.exists():
        first = Pipeline.build([table], dataset, where=where)
        place.write("first", dataset.name, resolved.name, text=first.dump())
        write_run(run, first.run(dataset.queries, exclude=dataset.excluded), "first")
    return resolved.read_text(encoding="utf-8"), dataset.rankings(read_run(run))


def _journalled(tables: Tables, dataset: str, place: Place) -> list[dict[str, Any]]:
    """Every reranker with a journal; the same reranker a second time with one of its own."""
    made: list[dict[str, Any]] = []
    taken: set[str] = set()
    for number, table in enumerate(tables, start=2):
        if "reranker" not in table:
            made.append(dict(table))
            continue
        journal = str(place.journal(dataset, table))
        if journal in taken:
            journal = str(place.journal(dataset, table, number))
        taken.add(journal)
        made.append({"journal": journal, **table})
    return made


def _without_journals(pipeline: Pipeline) -> str:
    """A journal is where this folder happens to lie; all else decides what comes out."""
    steps = [
        replace(step, table={key: value for key, value in (step.table or {}).items() if key != "journal"})
        for step in pipeline.steps
    ]
    return Pipeline(tuple(steps)).dump()
