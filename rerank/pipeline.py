"""Stages into pipelines: `bm25 % 100 >> cross_encoder % 20`, in Python or in TOML.

`>>` joins stages, `stage % n` says how many candidates a stage hands on:

- `retriever % n` retrieves n documents (1,000 when nothing is said);
- `reranker % n` admits its best n to the next stage; those not admitted stay below, in their order and unscored;
- on the last stage `% n` shortens what the pipeline returns to n, for its reader is the next stage.

A pipeline is a flat row of steps, so joining is associative and pipelines join with pipelines. Every stage runs over
all queries at once, because that is where the speed is.

The same in a file, where `cutoff = n` is `% n` and the other keys are options of the stage:

    [[stage]]
    retriever = "bm25"
    cutoff = 100

    [[stage]]
    reranker = "cross-encoder/ms-marco-MiniLM-L12-v2"
    max_tokens = 256
    cutoff = 20
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from rerank import config, registry, stages
from rerank.errors import ConfigError, InputError
from rerank.types import Query, Ranking

__all__ = [
    "DEFAULT_CUTOFF",
    "NO_EXCLUSIONS",
    "Pipeline",
    "Reranks",
    "Retriever",
    "Stage",
    "Step",
    "above",
    "check_cutoff",
]

DEFAULT_CUTOFF = 1000
"""How many documents a retriever retrieves when nothing is said: TREC's usual depth."""

NO_EXCLUSIONS: Mapping[str, Collection[str]] = MappingProxyType({})


@runtime_checkable
class Retriever(Protocol):
    """Finds candidates in a collection."""

    def retrieve(
        self, queries: Sequence[Query], cutoff: int, *, exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS
    ) -> list[Ranking]:
        """The best `cutoff` documents of each query, best first, in the order of the queries.

        Args:
            queries: any number of them.
            cutoff: how many documents to retrieve for each, at least 1; fewer when the retriever finds no more.
            exclude: query_id -> ids of documents that must not be retrieved for it; others take their places.
        """


@runtime_checkable
class Reranks(Protocol):
    """Orders candidates anew.

    One that brings in documents of its own says `fetches = True`; its `rerank` then takes `exclude` too, as a
    retriever's `retrieve` does.
    """

    def rerank(self, rankings: Sequence[Ranking]) -> list[Ranking]:
        """Each ranking in its new order, in the order of the rankings."""


class Stage:
    """What can stand in a pipeline: gives a retriever or a reranker `%` and `>>`."""

    def __mod__(self, cutoff: int) -> Pipeline:
        check_cutoff(Step(self).name, cutoff)
        return Pipeline((Step(self, cutoff),))

    def __rshift__(self, other: object) -> Pipeline:
        return Pipeline(_steps(self) + _steps(other))


@dataclass(frozen=True, slots=True)
class Step:
    """A stage and how many candidates it hands on.

    Args:
        stage: a retriever or a reranker.
        cutoff: n of `stage % n`; None hands on everything (a retriever: `DEFAULT_CUTOFF`).
        table: the TOML table that the stage was made from, with every default filled in.

    Raises:
        InputError: when the stage is neither, or the cutoff is no whole number of at least 1.
    """

    stage: Any
    cutoff: int | None = None
    table: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.stage, (Retriever, Reranks)):
            raise InputError(f"{self.stage!r} cannot stand in a pipeline; it has neither `retrieve` nor `rerank`")
        if self.cutoff is not None:
            check_cutoff(self.name, self.cutoff)

    @property
    def name(self) -> str:
        """What the stage calls itself, or its class."""
        return str(getattr(self.stage, "name", type(self.stage).__name__))

    @property
    def retrieves(self) -> bool:
        """Whether the stage is a retriever."""
        return isinstance(self.stage, Retriever)

    def __str__(self) -> str:
        return self.name if self.cutoff is None else f"{self.name} % {self.cutoff}"


@dataclass(frozen=True, repr=False)
class Pipeline(Stage):
    """Stages in a row, the retriever (if there is one) first.

    Raises:
        InputError: when there is no step, or a retriever stands behind another stage.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise InputError("a pipeline needs at least one stage")
        for step in self.steps[1:]:
            if step.retrieves:
                raise InputError(f"{step.name} is a retriever and stands behind another stage in {self.name}")

    @classmethod
    def load(cls, path: str | Path, dataset: object = None) -> Pipeline:
        """A pipeline from a TOML file.

        Args:
            path: a file of `[[stage]]` tables, as the head of this module shows.
            dataset: the `Dataset` for the stages that need one, such as a retriever that indexes it.

        Raises:
            FileError: when the file is missing or is no TOML.
            ConfigError: when a key is unknown or missing, or a stage needs a dataset and there is none.
            UnknownName: when nothing is registered under a stage's name.
        """
        values = config.table(path)
        for key in values:
            if key != "stage":
                raise ConfigError(f"{path}: no key is called {key!r}{registry.did_you_mean(key, ['stage'])}")
        return cls.build(values.get("stage", []), dataset, where=str(path))

    @classmethod
    def build(cls, tables: Sequence[Mapping[str, Any]], dataset: object = None, *, where: str = "pipeline") -> Pipeline:
        """A pipeline from the `[[stage]]` tables of a file; `where` names the file in errors."""
        cls.check(tables, dataset, where=where)  # a slip in the last stage shows before the first builds an index
        return cls(tuple(_step(table, dataset, f"{where}: stage {n}") for n, table in enumerate(tables, start=1)))

    @staticmethod
    def check(tables: Sequence[Mapping[str, Any]], dataset: object = None, *, where: str = "pipeline") -> None:
        """Refuse tables that `build` would refuse to begin: nothing is built, downloaded or loaded for it.

        Raises:
            ConfigError, UnknownName, InputError: as `load` does.
        """
        if not isinstance(tables, Sequence) or isinstance(tables, str) or not tables:
            raise ConfigError(f"{where}: a pipeline is one or more [[stage]] tables")
        for number, table in enumerate(tables, start=1):
            stages.check(table, dataset, f"{where}: stage {number}")
            if "cutoff" in table:
                name = next(table[kind] for kind in stages.KINDS if kind in table)
                check_cutoff(f"{where}: stage {number}: {name}", table["cutoff"])

    def dump(self) -> str:
        """The pipeline as TOML with every default filled in; loads as the same pipeline.

        Raises:
            InputError: when a stage was made in Python, where its options are not kept.
        """
        return "\n".join(_dumped(step) for step in self.steps)

    @property
    def name(self) -> str:
        """As it would be written, like `bm25 % 100 >> cross-encoder % 20`."""
        return " >> ".join(str(step) for step in self.steps)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}>"

    def __mod__(self, cutoff: int) -> Pipeline:
        *before, last = self.steps
        check_cutoff(last.name, cutoff)
        fewer = cutoff if last.cutoff is None else min(cutoff, last.cutoff)
        return Pipeline((*before, Step(last.stage, fewer, last.table)))

    @property
    def ledgers(self) -> list[tuple[str, Any]]:
        """(name, ledger) of every stage that keeps one, in order."""
        return [(step.name, step.stage.ledger) for step in self.steps if hasattr(step.stage, "ledger")]

    def run(self, queries: Sequence[Query], *, exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS) -> list[Ranking]:
        """Retrieve for these queries and rerank what was found; rankings in the order of the queries.

        Args:
            queries: their ids are distinct.
            exclude: query_id -> ids of documents that must not be retrieved for it.

        Raises:
            InputError: when the pipeline has no retriever, or two queries share an id.
        """
        first, rest = self.steps[0], self.steps[1:]
        if not first.retrieves:
            raise InputError(f"{self.name} has no retriever; put one in front, or call `rerank` with rankings")
        _check_distinct(queries)
        rankings = first.stage.retrieve(queries, first.cutoff or DEFAULT_CUTOFF, exclude=exclude)
        return self._shortened(_reranked(rest, rankings, exclude))

    def rerank(
        self, rankings: Sequence[Ranking], *, exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS
    ) -> list[Ranking]:
        """Rerank these rankings; for a pipeline of rerankers alone.

        Args:
            rankings: the candidates, best first.
            exclude: query_id -> ids of documents that no stage must bring in for it.

        Raises:
            InputError: when the pipeline begins with a retriever.
        """
        if self.steps[0].retrieves:
            raise InputError(f"{self.name} begins with a retriever; call `run` with queries")
        return self._shortened(_reranked(self.steps, list(rankings), exclude))

    def search(self, query: str | Query) -> Ranking:
        """The ranking of one query."""
        [ranking] = self.run([query if isinstance(query, Query) else Query("query", query)])
        return ranking

    def _shortened(self, rankings: list[Ranking]) -> list[Ranking]:
        return [ranking[: self.steps[-1].cutoff] for ranking in rankings]


def check_cutoff(name: str, cutoff: object) -> None:
    """Refuse a cutoff that is no whole number of at least 1; `name` is the stage that it was given to.

    Raises:
        InputError: when it is none.
    """
    if not isinstance(cutoff, Integral) or isinstance(cutoff, bool) or cutoff < 1:  # numpy's whole numbers are fine
        raise InputError(f"{name}: the cutoff is {cutoff!r}; it must be a whole number of at least 1")


def _steps(stage: object) -> tuple[Step, ...]:
    return stage.steps if isinstance(stage, Pipeline) else (Step(stage),)


def _check_distinct(queries: Sequence[Query]) -> None:
    for query_id, count in Counter(query.query_id for query in queries).items():
        if count > 1:
            raise InputError(f"the query id {query_id!r} occurs {count} times; a run holds one ranking for each id")


def _step(table: Mapping[str, Any], dataset: object, where: str) -> Step:
    stage, resolved = stages.make(table, dataset, where)
    step = Step(stage, resolved.pop("cutoff", None), resolved)
    return replace(step, cutoff=DEFAULT_CUTOFF) if step.retrieves and step.cutoff is None else step


def _dumped(step: Step) -> str:
    if step.table is None:
        raise InputError(f"{step.name} was made in Python, which keeps no options; load it from TOML to dump it")
    return stages.dump(step.table if step.cutoff is None else {**step.table, "cutoff": int(step.cutoff)})


def above(top: Ranking, rest: Ranking) -> Ranking:
    """A ranking with the documents of another below it, unscored and in their order, less those that it has."""
    placed = {document.doc_id for document in top.documents}  # a stage may have fetched one of the rest by itself
    return top.then(document for document in rest.documents if document.doc_id not in placed)


def _reranked(steps: Sequence[Step], rankings: list[Ranking], exclude: Mapping[str, Collection[str]]) -> list[Ranking]:
    """Each stage orders what the one before it admitted; the others stay below."""
    if not steps:
        return rankings
    ranked = _asked(steps[0].stage, rankings, exclude)
    if len(steps) == 1:
        return ranked
    admitted = [ranking[: steps[0].cutoff] for ranking in ranked]
    better = _reranked(steps[1:], admitted, exclude)
    return [above(top, ranking[len(taken) :]) for top, taken, ranking in zip(better, admitted, ranked, strict=True)]


def _asked(stage: Any, rankings: list[Ranking], exclude: Mapping[str, Collection[str]]) -> list[Ranking]:
    """A query for which nothing was found has nothing to rerank: no stage sees its empty ranking."""
    found = [ranking for ranking in rankings if ranking]
    without = {"exclude": exclude} if exclude and getattr(stage, "fetches", False) else {}
    ranked = dict(zip((id(ranking) for ranking in found), stage.rerank(found, **without) if found else [], strict=True))
    return [ranked.get(id(ranking), ranking) for ranking in rankings]
