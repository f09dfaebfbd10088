"""One system over one dataset: retrieve, rerank, and write down what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from rerank.datasets import Dataset
from rerank.io import write_ledger
from rerank.pipeline import Pipeline
from rerank.suite.asked import Tables
from rerank.suite.place import Place, digest
from rerank.suite.runs import read_run, write_run
from rerank.types import Ranking

__all__ = ["Job", "Watch", "run"]

Watch: TypeAlias = Callable[[Pipeline], Pipeline]


@dataclass(frozen=True)
class Job:
    """What is to be run, and where it goes.

    Args:
        dataset: whose queries.
        system: its name.
        tables: its stages.
        place: where run, ledgers and resolved pipeline go.
        first: where what first stages found is kept; None: there too.
        journals: where answers are kept; None: there too.
        change: what is done to the lists of the first stage before they are reranked.
    """

    dataset: Dataset
    system: str
    tables: Tables
    place: Place
    first: Place | None = None
    journals: Place | None = None
    change: Callable[[list[Ranking]], list[Ranking]] = lambda rankings: rankings

    @property
    def done(self) -> bool:
        """Whether its run is there, which is written last."""
        return self.place.run(self.dataset.name, self.system).exists()


def run(job: Job, watch: Watch) -> None:
    """Run a system; what it began before goes on.

    Raises:
        RerankError: whatever its stages raise.
    """
    dataset, name, place = job.dataset, job.system, job.place
    first, given = _first_stage(dataset, job.tables[0], job.first or place, f"{name}: stage 1")
    parts = _journalled(job.tables[1:], dataset.name, job.journals or place)
    resolved, rankings, output = first, job.change(given), place.run(dataset.name, name)
    if parts:
        pipeline = Pipeline.build(parts, dataset, where=name)
        resolved = f"{first}\n{_without_journals(pipeline)}"
        with ExitStack() as stack:
            for step in pipeline.steps:
                stack.callback(getattr(step.stage, "close", lambda: None))
            rankings = watch(pipeline).rerank(rankings, exclude=dataset.excluded)
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
