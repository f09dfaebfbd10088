"""A row carried out: retrieve, rerank and evaluate through the suite, which goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from reproductions.asked import Asked
from reproductions.differences import differences, weights
from reproductions.measured import Measured
from rerank import Dataset
from rerank.evaluate import Evaluation
from rerank.io import read_run, write_beir
from rerank.significance import interval
from rerank.suite import Asked as SuiteAsked
from rerank.suite import Suite, evaluate_suite

__all__ = ["run"]

FIRST = "first-stage"


class Outcome(NamedTuple):
    """What came of one collection: the first stage by itself, the whole, and its bill."""

    first: Evaluation
    whole: Evaluation
    bill: Mapping[str, float]


def run(asked: Asked, say: Callable[[str], None] = lambda line: None) -> list[Measured]:
    """Measure what the row's figures are of, as far as their collections were asked for; and each collection of a mean.

    Raises:
        RerankError: whatever its stages raise; what was answered is kept.
    """
    found = {name: _evaluated(asked, name, say) for name in asked.collections}
    whole = [(figure.collections, figure.measure) for figure in asked.row.figure]
    wanted = dict.fromkeys([*(((name,), measure) for names, measure in whole for name in names), *whole])
    return [_measured(asked, found, *one) for one in wanted if found.keys() >= {*one[0]}]


def _evaluated(asked: Asked, collection: str, say: Callable[[str], None]) -> Outcome:
    place, tables = _place(asked, collection), asked.tables(collection)
    suite = Suite(asked.row.title, (place,), name=f"{asked.row.name} on {collection}")
    systems = {FIRST: tables[:1], **({asked.row.name: tables} if asked.row.stage else {})}
    order = SuiteAsked(suite, systems, measures=asked.row.measures(collection))
    [result] = evaluate_suite(order, asked.folder / collection, say=say).found.values()
    last = [*systems][-1]
    return Outcome(result.evaluations[FIRST], result.evaluations[last], result.costs[last].total)


def _place(asked: Asked, collection: str) -> str:
    """What the collection is loaded by; of some queries alone a folder is written, with their candidates."""
    place = asked.place(collection)
    if asked.queries is None:
        return place
    folder = asked.folder / f"{collection}-{asked.queries}-queries-{asked.cutoff}"
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


def _measured(asked: Asked, found: Mapping[str, Outcome], collections: tuple[str, ...], measure: str) -> Measured:
    firsts = [found[name].first.means[measure] for name in collections]
    wholes = [found[name].whole for name in collections]
    between = (
        interval([*wholes[0].values(measure).values()]) if len(wholes) == 1 and len(wholes[0].query_ids) > 1 else None
    )
    return Measured(
        row=asked.row.name,
        collections=collections,
        measure=measure,
        value=fmean(whole.means[measure] for whole in wholes),
        first_stage=fmean(firsts),
        interval=() if between is None else (between.low, between.high),
        queries=sum(len(whole.query_ids) for whole in wholes),
        depth=asked.cutoff,
        weights=tuple(weights(asked)),
        differences=tuple(differences(asked, collections, measure, firsts)),
        date=date.today().isoformat(),
        questions=round(sum(found[name].bill.get("questions", 0) for name in collections)),
        repairs=round(sum(found[name].bill.get("repairs", 0) for name in collections)),
    )
