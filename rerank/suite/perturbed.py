"""A system that is given something else: the same job with other queries, other lists or other documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rerank.datasets import Dataset
from rerank.errors import FileError
from rerank.perturb import Perturbation, Perturbed
from rerank.pipeline import DEFAULT_CUTOFF
from rerank.suite.place import Place
from rerank.suite.system import Job
from rerank.types import Qrels, Query, Ranking

__all__ = ["Change", "changes_of", "perturbed"]


@dataclass(frozen=True, slots=True)
class Change:
    """What was changed for one query.

    Args:
        query_id: whose.
        query: as it was asked.
        changed: whether anything was.
        attacker: the document that attacks; None where none does.
    """

    query_id: str
    query: str
    changed: bool
    attacker: str | None = None


class AskedOtherwise:
    """A dataset's source, whose queries are worded otherwise."""

    def __init__(self, dataset: Dataset, change: Callable[[Query], Query]) -> None:
        source = dataset.source
        self.documents, self.corpus_key, self.find = source.documents, source.corpus_key, source.find
        self.qrels: Callable[[], Qrels] = source.qrels
        self.excluded: Callable[[], Mapping[str, frozenset[str]]] = getattr(source, "excluded", dict)
        self._queries, self._change = source.queries, change

    def queries(self) -> list[Query]:
        """All of them, changed."""
        return [self._change(query) for query in self._queries()]


def perturbed(job: Job, kind: Perturbation, seed: int) -> Job:
    """The job under a perturbation. It writes below `perturbed/KIND`, and beside its run what was changed.

    Its answers are kept in the journals of the system, so that only what is new is asked.
    """
    place = Place(job.place.folder / "perturbed" / kind.name)
    dataset, tables, qrels = job.dataset, job.tables, job.dataset.qrels
    if kind.of_queries:
        dataset = replace(dataset, source=AskedOtherwise(dataset, lambda query: kind.query(query, seed)))
    if kind.factor != 1:
        cutoff = kind.factor * int(tables[0].get("cutoff", DEFAULT_CUTOFF))
        tables = [{**tables[0], "cutoff": cutoff}, *tables[1:]]

    def change(rankings: list[Ranking]) -> list[Ranking]:
        new = [kind.ranking(ranking, seed, qrels.get(ranking.query.query_id, {})) for ranking in rankings]
        found = {one.ranking.query.query_id: (old, one) for old, one in zip(rankings, new, strict=True)}
        lines = [json.dumps(line, ensure_ascii=False) for line in _lines(job.dataset, dataset, found, kind)]
        place.write("changes", dataset.name, f"{job.system}.jsonl", text="\n".join(lines) + "\n")
        return [one.ranking for one in new]

    return Job(dataset, job.system, tables, place, place if kind.of_queries else job.place, job.place, change)


def changes_of(job: Job) -> list[Change]:
    """What a perturbed job, which has run, has changed.

    Raises:
        FileError: when its file cannot be read.
    """
    path = job.place.path("changes", job.dataset.name, f"{job.system}.jsonl")
    try:
        return [Change(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise FileError(f"cannot read {path}: {error}; remove {job.place.folder} to perturb anew") from error


def _lines(
    dataset: Dataset, asked: Dataset, found: Mapping[str, tuple[Ranking, Perturbed]], kind: Perturbation
) -> Iterator[dict[str, Any]]:
    """For every query, found or not."""
    for before, after in zip(dataset.queries, asked.queries, strict=True):
        old, new = found.get(after.query_id, (None, None))
        changed = before != after or (new is not None and (kind.factor != 1 or new.ranking != old))
        yield {
            "query_id": after.query_id,
            "query": after.text,
            "changed": changed,
            "attacker": None if new is None else new.attacker,
        }
