"""A row as somebody asks for it: where collections and runs lie, and what is done otherwise than the source did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reproductions.row import Row, first_stage
from rerank.errors import InputError
from rerank.pipeline import check_cutoff
from rerank.registry import unknown

__all__ = ["Asked"]


@dataclass(frozen=True)
class Asked:
    """A row, and how it is run.

    Args:
        row: which.
        output: the folder in which each row has one of its own; the same call goes on in it.
        collections: those of the row's that are run.
        places: collection -> BEIR folder, where it is not had by its name.
        runs: collection -> the first stage's run, where it is not retrieved here.
        checkpoint: a model in place of the row's.
        depth: candidates in place of the row's.
        queries: how many queries, the first of the collection; all when None.
        device, dtype: as of `Reranker`.

    Raises:
        UnknownName: when the row has no figure on a collection.
        InputError: when a depth or a number of queries is below 1, or some queries are wanted and no run is there.
    """

    row: Row
    output: Path
    collections: tuple[str, ...]
    places: Mapping[str, Path] = field(default_factory=dict)
    runs: Mapping[str, Path] = field(default_factory=dict)
    checkpoint: str = ""
    depth: int | None = None
    queries: int | None = None
    device: str = ""
    dtype: str = ""

    def __post_init__(self) -> None:
        for name in (*self.collections, *self.places, *self.runs):
            if name not in self.row.collections:
                raise unknown(f"collection of the row {self.row.name!r}", name, self.row.collections)
        for what, number in (("--depth", self.depth), ("--queries", self.queries)):
            if number is not None:
                check_cutoff(what, number)
        if self.queries is not None and (without := [name for name in self.collections if name not in self.runs]):
            raise InputError(f"--queries reads the candidates of a run: say --run {without[0]}=FILE")

    @property
    def cutoff(self) -> int:
        """How many candidates are reranked."""
        return self.depth or self.row.depth

    @property
    def folder(self) -> Path:
        """Where everything of this row goes."""
        return self.output / self.row.name

    @property
    def models(self) -> tuple[str, ...]:
        """What is asked: the row's models, or the one in their place."""
        return (self.checkpoint,) if self.checkpoint and self.row.stage else self.row.models

    @property
    def largest(self) -> float:
        """Parameters of the largest model, in billions; 0 where that is not known or nobody has to load it."""
        return 0.0 if self.checkpoint or self.row.hosted else self.row.parameters

    def tables(self, collection: str) -> list[dict[str, Any]]:
        """The whole pipeline, first stage included."""
        run = self.runs.get(collection)
        first = first_stage(self.row.first_stage).stage if run is None else {"retriever": "saved", "path": str(run)}
        return [{**first, "cutoff": self.cutoff}, *(self._changed(table) for table in self.row.tables())]

    def place(self, collection: str) -> str:
        """What the collection is loaded by."""
        return str(self.places[collection].resolve()) if collection in self.places else collection

    def differences(self) -> list[str]:
        """What is done otherwise than the source did, so far as it is known before anything is run."""
        found = [f"asked of {Path(self.checkpoint).name}"] if self.checkpoint and self.row.stage else []
        if self.runs and not self.row.stage:
            found.append("a run that was retrieved elsewhere")
        if self.cutoff != self.row.depth:
            found.append(f"{self.cutoff} candidates instead of {self.row.depth}")
        if self.dtype == "int8":
            found.append("scored in int8")
        if self.queries is not None:
            found.append(f"{self.queries} queries alone")
        return found

    def _changed(self, table: Mapping[str, Any]) -> dict[str, Any]:
        said = {"model": self.checkpoint, "device": self.device, "dtype": self.dtype}
        return {**table, **{name: value for name, value in said.items() if value}}
