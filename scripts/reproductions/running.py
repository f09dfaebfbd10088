"""A row carried out: retrieve, rerank and evaluate through the suite, which goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import fmean

from reproductions import row as rows
from reproductions.asked import Asked
from reproductions.row import Figure, Row
from rerank import Dataset, checkpoints
from rerank.datasets import names as datasets
from rerank.evaluate import Evaluation
from rerank.io import read_run, write_beir
from rerank.judges.hosting.providers import is_hosted
from rerank.significance import interval
from rerank.suite import Asked as SuiteAsked
from rerank.suite import Suite, evaluate_suite

__all__ = ["Measured", "published_first", "run", "verdict"]

FIRST = "first-stage"
SAME = 0.0005
"""How far off a first stage may be: its figures are of exact sorting, rounded to four digits."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One value, beside which published figures are put.

    Args:
        row: of which system.
        collections: over which; the mean where they are several.
        value: what came out.
        first_stage: the same measure of the candidates as they came.
        interval: of the mean over queries, 95 %; empty for several collections.
        queries: how many were judged.
        depth: candidates of each.
        weights: of which models, and where they came from.
        differences: in what it is not what the source did; empty where it can be compared.
    """

    row: str
    collections: tuple[str, ...]
    measure: str
    value: float
    first_stage: float
    interval: tuple[float, ...]
    queries: int
    depth: int
    weights: tuple[str, ...]
    differences: tuple[str, ...]
    date: str


def run(asked: Asked, say: Callable[[str], None] = lambda line: None) -> list[Measured]:
    """Measure what the row's figures are of, as far as their collections were asked for; and each collection of a mean.

    Raises:
        RerankError: whatever its stages raise; what was answered is kept.
    """
    found = {name: _evaluated(asked, name, say) for name in asked.collections}
    whole = [(figure.collections, figure.measure) for figure in asked.row.figure]
    wanted = dict.fromkeys([*(((name,), measure) for names, measure in whole for name in names), *whole])
    return [_measured(asked, found, *one) for one in wanted if found.keys() >= {*one[0]}]


def _evaluated(asked: Asked, collection: str, say: Callable[[str], None]) -> tuple[Evaluation, Evaluation]:
    """The first stage by itself, and the whole."""
    place, tables = _place(asked, collection), asked.tables(collection)
    suite = Suite(asked.row.title, (place,), name=f"{asked.row.name} on {collection}")
    systems = {FIRST: tables[:1], **({asked.row.name: tables} if asked.row.stage else {})}
    order = SuiteAsked(suite, systems, measures=asked.row.measures(collection))
    [result] = evaluate_suite(order, asked.output / collection, say=say).found.values()
    evaluations = result.evaluations
    return evaluations[FIRST], evaluations[asked.row.name if asked.row.stage else FIRST]


def _place(asked: Asked, collection: str) -> str:
    """What the collection is loaded by; of some queries alone a folder is written, with their candidates."""
    place = asked.place(collection)
    if asked.queries is None:
        return place
    folder = asked.output / f"{collection}-{asked.queries}-queries-{asked.cutoff}"
    if not folder.exists():
        dataset = Dataset.load(Path(place) if collection in asked.places else place)
        some = [query for query in dataset.queries if query.query_id in dataset.qrels][: asked.queries]
        _written(dataset, asked.runs[collection], [query.query_id for query in some], asked.cutoff, folder)
    return str(folder.resolve())


def _written(dataset: Dataset, path: Path, query_ids: Sequence[str], cutoff: int, folder: Path) -> None:
    candidates = read_run(path)
    rankings = dataset.rankings({name: candidates[name] for name in query_ids if name in candidates}, cutoff)
    documents = {document.doc_id: document for ranking in rankings for document in ranking.documents}
    queries = [query for query in dataset.queries if query.query_id in query_ids]
    write_beir(folder, documents.values(), queries, {name: dataset.qrels[name] for name in query_ids})


def _measured(
    asked: Asked, found: Mapping[str, tuple[Evaluation, Evaluation]], collections: tuple[str, ...], measure: str
) -> Measured:
    firsts = [found[name][0].means[measure] for name in collections]
    wholes = [found[name][1] for name in collections]
    between = (
        interval([*wholes[0].values(measure).values()]) if len(wholes) == 1 and len(wholes[0].query_ids) > 1 else None
    )
    differences = [
        *asked.differences(),
        *_part_of_a_mean(asked.row, collections, measure),
        *_other_queries(asked, collections),
        *_changed_weights(asked),
        *_other_candidates(asked, collections, measure, firsts),
    ]
    return Measured(
        row=asked.row.name,
        collections=collections,
        measure=measure,
        value=fmean(whole.means[measure] for whole in wholes),
        first_stage=fmean(firsts),
        interval=() if between is None else (between.low, between.high),
        queries=sum(len(whole.query_ids) for whole in wholes),
        depth=asked.cutoff,
        weights=tuple(f"{_called(model)}: {_origin(model)}" for model in _models(asked)),
        differences=tuple(differences),
        date=date.today().isoformat(),
    )


def _models(asked: Asked) -> list[str]:
    """Those of the reranker, and of the first stage where it was run here."""
    stage = rows.first_stage(asked.row.first_stage).stage
    retrieved = [str(stage["model"])] if "model" in stage and len(asked.runs) < len(asked.collections) else []
    return [*retrieved, *asked.models]


def _called(model: str) -> str:
    """A folder by its name, wherever it lies on this machine."""
    return Path(model).name if Path(model).is_dir() else model


def _origin(model: str) -> str:
    if is_hosted(model):
        return "as its server has it"
    return checkpoints.origin(checkpoints.fetch(model))


def _part_of_a_mean(row: Row, collections: tuple[str, ...], measure: str) -> list[str]:
    published = {(each.collections, each.measure) for each in row.figure}
    return [] if (collections, measure) in published else ["a part of the collections whose mean is published"]


def _other_queries(asked: Asked, collections: tuple[str, ...]) -> list[str]:
    """Collections in a folder that have more or fewer judged queries than those of their names."""
    said = {listed.name: listed.counts.queries for listed in datasets()}
    has = {name: len(Dataset.load(asked.places[name]).queries) for name in collections if name in asked.places}
    return [
        f"{name} with {count} queries instead of {said[name]}" for name, count in has.items() if count != said[name]
    ]


def _changed_weights(asked: Asked) -> list[str]:
    """Weights that somebody has rounded since they were published."""
    named = {model: _origin(model) for model in _models(asked) if model != asked.checkpoint}
    return [f"weights of {name} from a {where}" for name, where in named.items() if "turned back" in where]


def _other_candidates(asked: Asked, collections: tuple[str, ...], measure: str, firsts: Sequence[float]) -> list[str]:
    """A first stage that is not the published one, where anything is published about it."""
    if asked.queries is not None or not asked.row.stage:
        return []
    said = [published_first(asked.row, name, measure) for name in collections]
    return [
        f"a first stage with {measure} {_share(value)} on {name} instead of {_share(figure.value)}"
        for name, value, figure in zip(collections, firsts, said, strict=True)
        if figure is not None and abs(value - figure.value) > SAME
    ]


def published_first(row: Row, collection: str, measure: str) -> Figure | None:
    """What is published of a row's first stage by itself, in the row that is named like it."""
    if row.first_stage not in rows.names() or row.name == row.first_stage:
        return None
    figures = rows.read(row.first_stage).figure
    return next((each for each in figures if (each.collections, each.measure) == ((collection,), measure)), None)


def verdict(measured: Measured, figure: Figure, row: Row) -> str:
    """What a measured value says about a published one."""
    if measured.differences:
        return f"not comparable: {', '.join(measured.differences)}"
    within = abs(measured.value - figure.value) <= row.tolerance + 5e-5  # figures are rounded to four digits
    return f"{'within' if within else 'FURTHER OFF THAN'} {_share(row.tolerance)}"


def _share(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")
