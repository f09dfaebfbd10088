"""A pipeline over a dataset's queries, shard by shard, into one run."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rerank import stages
from rerank.cost import UNITS, Ledger
from rerank.datasets import Dataset
from rerank.distributed.crew import Crew
from rerank.distributed.store import Store
from rerank.errors import InputError
from rerank.io import atomic_write, written_lines
from rerank.pipeline import Pipeline
from rerank.types import Query

__all__ = ["Job", "run_pipeline"]

QUERIES = 64
"""In a shard: a minute or so of reranking 100 candidates each on a few cores; what is lost when a worker is."""

Tables: TypeAlias = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Job:
    """What a pipeline's run on many machines came to.

    Args:
        output: the run's file.
        queries: how many it was asked about.
        shards: how many they made.
        finished_before: of them, by an earlier call.
        ledgers: (stage, bill) for each stage that keeps one, whoever did the work.
    """

    output: Path
    queries: int
    shards: int
    finished_before: int
    ledgers: Sequence[tuple[str, Ledger]]


def run_pipeline(
    tables: Tables,
    dataset: str | Path,
    output: str | Path,
    *,
    store: str,
    crew: Crew | None = None,
    split: str | None = None,
    keep: int | None = None,
    queries_per_shard: int = QUERIES,
    tag: str = "rerank",
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> Job:
    """Retrieve and rerank a dataset's queries, and write the run that `Pipeline.run` would give, byte for byte.

    Each worker builds the pipeline once. Every machine must find the dataset and the first stage's index under the same
    name: keep them, and the store, where all see them. An index that is built in the cache is built here first.

    Args:
        tables: the `[[stage]]` tables of a pipeline's file, a retriever (or a saved run) first.
        dataset, split: see `Dataset.load`; workers load it by name.
        output: the run, in TREC's format.
        store: a folder or URL for the shards; the same call goes on in it.
        crew: who works; this process when None.
        keep: the best n of each query alone.
        queries_per_shard: what is done, kept or lost together.
        tag: the run's name.
        on_done: told (queries done, queries) as shards are finished.

    Raises:
        InputError: when there is no query, the pipeline has no retriever, or a shard no query.
        FileError: when the store belongs to another job or refuses.
    """
    if queries_per_shard < 1:
        raise InputError(f"queries_per_shard={queries_per_shard}; a shard needs at least 1")
    loaded, place = Dataset.load(dataset, split), Store(store)
    _check(tables, loaded)
    shards = _shards(loaded.queries, queries_per_shard)
    plain = [dict(table) for table in tables]
    begun = {"job": 1, "kind": "pipeline", "pipeline": plain, "dataset": loaded.name, "corpus": loaded.corpus_key}
    begun |= {"queries": _digest(loaded.queries), "queries_per_shard": queries_per_shard, "keep": keep, "tag": tag}
    place.begin(begun)
    before = place.finished() & shards.keys()
    if len(before) < len(shards):
        stages.make(tables[0], loaded, "stage 1")  # an index in the cache is built once, and not by each worker
    make = functools.partial(_PipelineWork, plain, str(dataset), split, loaded.corpus_key, keep, tag)
    done = 0
    for name in (crew or Crew()).carry(make, shards.items(), place):
        done += len(shards[name])
        on_done(done, len(loaded.queries))
    ledgers = _joined(Path(output), place, shards)
    return Job(Path(output), len(loaded.queries), len(shards), len(before), ledgers)


class _PipelineWork:
    """Shards of query ids to lines of a run and what they cost; on a worker."""

    def __init__(
        self, tables: Tables, dataset: str, split: str | None, corpus: str, keep: int | None, tag: str
    ) -> None:
        self._dataset = Dataset.load(dataset, split)
        if self._dataset.corpus_key != corpus:
            raise InputError(f"a worker finds other documents under {dataset!r} than where the job began; share them")
        pipeline = Pipeline.build(tables, self._dataset)
        self._pipeline, self._tag = pipeline if keep is None else pipeline % keep, tag
        self._queries = {query.query_id: query for query in self._dataset.queries}

    def __call__(self, query_ids: Sequence[str]) -> bytes:
        queries = [self._queries[query_id] for query_id in query_ids]
        rankings = self._pipeline.run(queries, exclude=self._dataset.excluded)
        costs = [_bill(name, ledger, query_ids) for name, ledger in self._pipeline.ledgers]
        return json.dumps({"lines": list(written_lines(rankings, self._tag)), "ledgers": costs}).encode()


def _bill(name: str, ledger: Ledger, query_ids: Sequence[str]) -> dict[str, Any]:
    accounts, waits = ledger.queries, ledger.wall_seconds
    return {
        "stage": name,
        "notes": ledger.notes,
        "queries": {query_id: accounts.get(query_id, {}) for query_id in query_ids},
        "wall_seconds": {query_id: waits[query_id] for query_id in query_ids if query_id in waits},
    }


def _check(tables: Tables, dataset: Dataset) -> None:
    Pipeline.check(tables, dataset)
    if "retriever" not in tables[0]:
        raise InputError('the pipeline has no retriever; put one in front, such as retriever = "saved" with a run')
    for number, table in enumerate(tables, start=1):
        if "journal" in table:
            raise InputError(f"stage {number} has a journal, which only one process can write; the store keeps shards")
    if not dataset.queries:
        raise InputError(f"dataset {dataset.name!r} has no query; there is nothing to do")


def _shards(queries: Sequence[Query], size: int) -> dict[str, list[str]]:
    ids = [query.query_id for query in queries]
    return {f"{start // size:06}.json": ids[start : start + size] for start in range(0, len(ids), size)}


def _digest(queries: Sequence[Query]) -> str:
    digest = hashlib.sha256()
    for query in queries:
        digest.update(json.dumps([query.query_id, query.text, query.instruction]).encode() + b"\n")
    return digest.hexdigest()


def _joined(output: Path, store: Store, shards: Mapping[str, Sequence[str]]) -> list[tuple[str, Ledger]]:
    """Write the run from its shards, in the order of the queries, and add up what they cost."""
    ledgers: dict[int, tuple[str, Ledger]] = {}
    written = 0
    with atomic_write(output) as file:
        for name in shards:
            shard = json.loads(store.read(name))
            written += len(shard["lines"])
            file.writelines(shard["lines"])
            for number, bill in enumerate(shard["ledgers"]):
                _charge(ledgers.setdefault(number, (bill["stage"], Ledger()))[1], bill)
        if not written:
            raise InputError(f"there is no candidate to write to {output}; an empty run cannot be evaluated")
    return [ledgers[number] for number in sorted(ledgers)]


def _charge(ledger: Ledger, bill: Mapping[str, Any]) -> None:
    for query_id, account in bill["queries"].items():
        ledger.charge(query_id, **{name: amount for name, amount in account.items() if name in UNITS})
    for query_id, seconds in bill["wall_seconds"].items():
        ledger.finish(query_id, seconds)
    for name, value in bill["notes"].items():
        ledger.note(name, value)
