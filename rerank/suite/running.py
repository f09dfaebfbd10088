"""Every system over every dataset of a suite; what is finished is not done again, what was begun goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rerank.datasets import Dataset
from rerank.errors import FileError, InputError, RerankError
from rerank.evaluate import Evaluation, evaluate, with_judged
from rerank.report import per_query_sheet, reliability_of
from rerank.suite.asked import Asked, Systems
from rerank.suite.costs import Cost, cost_of
from rerank.suite.perturbed import changes_of, perturbed
from rerank.suite.place import Place
from rerank.suite.results import DatasetResult, Results
from rerank.suite.robustness import Robustness, corrected, robustness
from rerank.suite.runs import read_run
from rerank.suite.system import Job, Watch, run
from rerank.types import Scores

__all__ = ["Watch", "evaluate_suite"]

Say = Callable[[str], None]


def evaluate_suite(
    asked: Asked,
    folder: str | Path,
    *,
    say: Say = lambda line: None,
    watch: Watch = lambda pipeline: pipeline,
) -> Results:
    """Run systems over a suite, and evaluate them.

    A dataset that cannot be had is named in `Results.unavailable` with the reason. First stages that are the same in
    several systems retrieve once, and rerankers that are the same are asked once. Documents that a benchmark excludes
    for a query are not retrieved for it.

    Args:
        asked: which systems over which datasets.
        folder: where everything is written; the same call goes on in it.
        say: told what is going on, a line at a time.
        watch: may put something in the place of a pipeline's stages, such as one with a progress bar.

    Raises:
        InputError: when the folder holds something else, or no dataset of the suite can be had.
        FileError: when the folder cannot be written.
    """
    place = Place(Path(folder))
    place.begin(asked.record())
    found: dict[str, DatasetResult] = {}
    unavailable: dict[str, str] = {}
    for name, title in zip(asked.suite.datasets, asked.suite.titles, strict=True):
        try:
            dataset = _loaded(name, asked.split)
            _check_judgments(dataset, place, say)
        except (RerankError, OSError) as error:
            unavailable[name] = " ".join(str(error).split())
            say(f"{name}: left out: {unavailable[name]}")
            continue
        tables = {system: asked.tables(system, title) for system in asked.systems}
        found[name] = _one(dataset, tables, asked, place, say, watch)
    if not found:
        raise InputError(f"no dataset of {asked.suite.name!r} can be had; {next(iter(unavailable.values()))}")
    return Results(asked.suite, asked.baseline, found, unavailable, asked.seed)


def _loaded(name: str, split: str | None) -> Dataset:
    """A dataset of which queries, judgments and a document are known to be there."""
    dataset = Dataset.load(Path(name) if Path(name).is_absolute() else name, split)
    if not dataset.queries or not dataset.qrels:
        raise FileError(f"dataset {dataset.name!r} has no judgments, and nothing can be evaluated by it")
    if next(dataset.documents(), None) is None:
        raise FileError(f"dataset {dataset.name!r} has no documents")
    return dataset


def _check_judgments(dataset: Dataset, place: Place, say: Say) -> None:
    """Count the judged documents that the collection lacks, once; refuse judgments of another collection.

    Raises:
        InputError: when it has none of them.
    """
    path = place.path("first", dataset.name, "judged.json")
    if path.exists():
        return
    judged = {doc_id for documents in dataset.qrels.values() for doc_id in documents}
    missing = dataset.missing_judged()
    if missing:
        say(f"{dataset.name} lacks {len(missing):,} of {len(judged):,} judged documents, {missing[0]!r} for one")
    place.write("first", dataset.name, path.name, text=json.dumps({"judged": len(judged), "missing": missing}) + "\n")


def _one(dataset: Dataset, systems: Systems, asked: Asked, place: Place, say: Say, watch: Watch) -> DatasetResult:
    """One dataset: what is not there yet is run, then everything is read back and evaluated."""
    place.check_corpus(dataset.name, dataset.corpus_key)
    for name, tables in systems.items():
        job = Job(dataset, name, tables, place)
        say(f"{dataset.name}: {name}{': finished before' if job.done else ''}")
        if not job.done:
            run(job, watch)
    runs: dict[str, Scores] = {name: read_run(place.run(dataset.name, name)) for name in systems}
    measures = with_judged(asked.measures or dataset.measures)
    found = {name: evaluate(dataset.qrels, ranked, measures) for name, ranked in runs.items()}
    place.write("measures", f"{dataset.name}.csv", text=per_query_sheet(found).csv())
    costs: dict[str, Cost] = {name: cost_of(place.ledgers(dataset.name, name)) for name in systems}
    robust: list[Robustness] = []
    for name, tables in systems.items():
        robust += _perturbed(Job(dataset, name, tables, place), (found[name], runs[name]), asked, say, watch)
    made = DatasetResult.of(dataset, found, runs, costs, asked.baseline)
    said = {name: reliability_of(dataset.qrels, runs[name]) for name in systems if "calibration" in systems[name][-1]}
    return replace(made, robust=tuple(robust), probabilities=said)


def _perturbed(
    job: Job, before: tuple[Evaluation, Scores], asked: Asked, say: Say, watch: Watch
) -> Sequence[Robustness]:
    """A system under every perturbation that was asked for, against its run as it is."""
    dataset, found = job.dataset, []
    for kind in asked.perturbations:
        if kind.of_lists and len(job.tables) == 1:
            continue  # behind the first stage nobody reads the list
        changed = perturbed(job, kind, asked.seed)
        say(f"{dataset.name}: {job.system}, {kind.name}{': finished before' if changed.done else ''}")
        if not changed.done:
            run(changed, watch)
        ranked = read_run(changed.place.run(dataset.name, job.system))
        after = evaluate(dataset.qrels, ranked, before[0].measures)
        text = per_query_sheet({job.system: after}).csv()
        changed.place.write("measures", dataset.name, f"{job.system}.csv", text=text)
        both = (before[0], after), (before[1], ranked)
        found.append(robustness(job.system, kind.name, *both, changes_of(changed), asked.seed))
    return corrected(found)
