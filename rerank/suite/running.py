"""Every system over every dataset of a suite; what is finished is not done again, what was begun goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from rerank.datasets import Dataset
from rerank.errors import ConfigError, FileError, InputError, RerankError
from rerank.evaluate import evaluate
from rerank.io import read_run, write_ledger, write_run
from rerank.pipeline import Pipeline
from rerank.report import per_query_sheet
from rerank.suite.costs import Cost, cost_of
from rerank.suite.place import Place
from rerank.suite.results import DatasetResult, Results
from rerank.suite.suites import Suite
from rerank.types import Ranking, Scores

__all__ = ["Systems", "Watch", "evaluate_suite"]

Systems: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
"""name -> the `[[stage]]` tables of its pipeline."""

Watch: TypeAlias = Callable[[Pipeline], Pipeline]


def evaluate_suite(
    suite: Suite,
    systems: Systems,
    folder: str | Path,
    *,
    baseline: str | None = None,
    measures: Sequence[str] = (),
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    watch: Watch = lambda pipeline: pipeline,
) -> Results:
    """Run systems over a suite, and evaluate them.

    A dataset that cannot be had is named in `Results.unavailable` with the reason. First stages that are the same in
    several systems retrieve once. Documents that a benchmark excludes for a query are not retrieved for it.

    Args:
        suite: of which datasets.
        systems: name -> `[[stage]]` tables; the first stage is a retriever.
        folder: where everything is written; the same call goes on in it.
        baseline: the system that the others are compared with; the first when left out.
        measures: by ir-measures name; each dataset's own when empty.
        seed: of intervals and tests.
        say: told what is going on, a line at a time.
        watch: may put something in the place of a pipeline's stages, such as one with a progress bar.

    Raises:
        InputError: when a pipeline is none, its first stage is no retriever, the folder holds something else, or no
            dataset of the suite can be had.
    """
    _check(systems, baseline)
    place = Place(Path(folder))
    chosen = baseline or next(iter(systems))
    place.begin({"suite": suite.name, "datasets": suite.datasets, "systems": dict(systems), "baseline": chosen})
    found: dict[str, DatasetResult] = {}
    unavailable: dict[str, str] = {}
    for name in suite.datasets:
        try:
            dataset = _loaded(name)
        except (RerankError, OSError) as error:
            unavailable[name] = " ".join(str(error).split())
            say(f"{name}: left out: {unavailable[name]}")
            continue
        found[name] = _one(dataset, systems, place, chosen, measures, say, watch)
    if not found:
        raise InputError(f"no dataset of {suite.name!r} can be had; {next(iter(unavailable.values()))}")
    return Results(suite, chosen, found, unavailable, seed)


def _check(systems: Systems, baseline: str | None) -> None:
    if not systems:
        raise InputError("a suite needs at least one pipeline")
    if baseline is not None and baseline not in systems:
        raise InputError(f"the baseline {baseline!r} is none of the systems {', '.join(systems)}")
    any_dataset = Dataset("any", Dataset.load("noveleval").source)  # whatever wants one is content with any
    for name, tables in systems.items():
        Pipeline.check(tables, any_dataset, where=name)
        if "retriever" not in tables[0]:
            raise ConfigError(f"{name}: the first stage is no retriever; a suite retrieves and reranks")


def _loaded(name: str) -> Dataset:
    """A dataset of which queries, judgments and a document are known to be there."""
    dataset = Dataset.load(Path(name) if Path(name).is_absolute() else name)
    if not dataset.queries or not dataset.qrels:
        raise FileError(f"dataset {dataset.name!r} has no judgments, and nothing can be evaluated by it")
    if next(dataset.documents(), None) is None:
        raise FileError(f"dataset {dataset.name!r} has no documents")
    return dataset


def _one(
    dataset: Dataset,
    systems: Systems,
    place: Place,
    baseline: str,
    measures: Sequence[str],
    say: Callable[[str], None],
    watch: Watch,
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
    asked = list(measures) or list(dataset.measures)
    found = {name: evaluate(dataset.qrels, run, asked) for name, run in runs.items()}
    place.write("measures", f"{dataset.name}.csv", text=per_query_sheet(found).csv())
    costs: dict[str, Cost] = {name: cost_of(place.ledgers(dataset.name, name)) for name in systems}
    return DatasetResult.of(dataset, found, runs, costs, baseline)


def _run(dataset: Dataset, name: str, tables: Sequence[Mapping[str, Any]], place: Place, watch: Watch) -> None:
    first, given = _first_stage(dataset, tables[0], place, f"{name}: stage 1")
    parts = [_journalled(table, place.journal(dataset.name, name, n)) for n, table in enumerate(tables[1:], start=2)]
    resolved, rankings, output = first, given, place.run(dataset.name, name)
    if parts:
        pipeline = Pipeline.build(parts, dataset, where=name)
        resolved = f"{first}\n{_without_journals(pipeline)}"
        with ExitStack() as stack:
            for step in pipeline.steps:
                stack.callback(getattr(step.stage, "close", lambda: None))
            rankings = watch(pipeline).rerank(given)
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
    key = hashlib.sha256(json.dumps(table, sort_keys=True, default=str).encode()).hexdigest()[:12]
    run, resolved = (place.path("first", dataset.name, f"{key}.{ending}") for ending in ("trec", "toml"))
    if not run.exists():
        first = Pipeline.build([table], dataset, where=where)
        place.write("first", dataset.name, resolved.name, text=first.dump())
        write_run(run, first.run(dataset.queries, exclude=dataset.excluded), "first")
    return resolved.read_text(encoding="utf-8"), dataset.rankings(read_run(run))


def _journalled(table: Mapping[str, Any], journal: Path) -> dict[str, Any]:
    return {"journal": str(journal), **table} if "reranker" in table else dict(table)


def _without_journals(pipeline: Pipeline) -> str:
    """A journal is where this folder happens to lie; all else decides what comes out."""
    steps = [
        replace(step, table={key: value for key, value in (step.table or {}).items() if key != "journal"})
        for step in pipeline.steps
    ]
    return Pipeline(tuple(steps)).dump()
