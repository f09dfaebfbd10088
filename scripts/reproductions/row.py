"""A published row as data: a file each, with all that its source says about how the figures came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rerank import config
from rerank.datasets import names as datasets
from rerank.errors import ConfigError
from rerank.judges.hosting.providers import is_hosted
from rerank.registry import unknown

__all__ = ["Figure", "FirstStage", "Row", "first_stage", "names", "read"]

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class FirstStage:
    """Where the candidates come from.

    Args:
        description: for a person who has to make the run elsewhere.
        stage: the `[[stage]]` table of a retriever; empty where none here makes these candidates.
    """

    name: str
    description: str
    stage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """One published number.

    Args:
        collections: names of the catalogue; of several, the number is the mean over them.
        value: from 0 to 1.
        measure: by ir-measures name.
        source: where it stands, when that is not where the row's other figures do.

    Raises:
        ConfigError: when there is no collection of a name, or the value is no share.
    """

    collections: tuple[str, ...]
    value: float
    measure: str = "nDCG@10"
    source: str = ""

    def __post_init__(self) -> None:
        if strange := [name for name in self.collections if name not in _datasets()]:
            raise unknown("dataset", strange[0], sorted(_datasets()))
        if not self.collections or not 0 < self.value < 1:
            raise ConfigError(f"a figure is of collections and between 0 and 1, not {self.value} of none")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of published figures, all by one system.

    Args:
        title: what its source calls it.
        source: the address of the figures.
        first_stage: a file in `first_stages`.
        depth: how many candidates of it were reranked.
        figure: the numbers.
        stage: the `[[stage]]` tables behind the first stage, with the options of the source; none where the row is of
            the first stage. A prompt that ends in ".toml" is a file in `prompts`.
        parameters: of the largest model, in billions, by its card; 0 where nobody has to load it.
        tolerance: how far off a measured value may be: 16-bit weights and another order of computing move what is
            scored a little, what is written more, and what a server runs most.
        note: in what the source did otherwise.
        obstacle: why this toolkit cannot run it at all.

    Raises:
        ConfigError: when there is no source, no figure or no candidate.
    """

    name: str
    title: str
    source: str
    first_stage: str
    depth: int
    figure: tuple[Figure, ...]
    stage: tuple[Mapping[str, Any], ...] = ()
    parameters: float = 0.0
    tolerance: float = 0.01
    note: str = ""
    obstacle: str = ""

    def __post_init__(self) -> None:
        if "://" not in self.source or not self.figure or self.depth < 1:
            raise ConfigError("a row has the address of its source, at least one figure, and a depth of at least 1")
        first_stage(self.first_stage)

    @property
    def collections(self) -> tuple[str, ...]:
        """All that its figures are of, in their order."""
        return tuple(dict.fromkeys(name for figure in self.figure for name in figure.collections))

    @property
    def models(self) -> tuple[str, ...]:
        """What its stages ask, in their order, each once."""
        return tuple(dict.fromkeys(str(table.get("model", table["reranker"])) for table in self.stage))

    @property
    def hosted(self) -> bool:
        """Whether somebody else runs its model."""
        return any(map(is_hosted, self.models))

    def measures(self, collection: str) -> tuple[str, ...]:
        """Those that are published of a collection."""
        return tuple(dict.fromkeys(each.measure for each in self.figure if collection in each.collections))

    def tables(self) -> list[dict[str, Any]]:
        """The stages behind the first, with the files of prompts in their places."""
        return [_with_prompt(table) for table in self.stage]


def names() -> list[str]:
    """All rows, sorted."""
    return sorted(path.stem for path in (HERE / "rows").glob("*.toml"))


@cache
def read(name: str) -> Row:
    """A row by its name.

    Raises:
        UnknownName: when there is none of that name.
        ConfigError: when its file does not hold together.
    """
    if name not in names():
        raise unknown("row", name, names())
    path = HERE / "rows" / f"{name}.toml"
    return config.build(Row, {"name": name, **config.table(path)}, path.name)


@cache
def first_stage(name: str) -> FirstStage:
    """A first stage by its name.

    Raises:
        UnknownName: when there is none of that name.
    """
    known = sorted(path.stem for path in (HERE / "first_stages").glob("*.toml"))
    if name not in known:
        raise unknown("first stage", name, known)
    path = HERE / "first_stages" / f"{name}.toml"
    return config.build(FirstStage, {"name": name, **config.table(path)}, path.name)


def _with_prompt(table: Mapping[str, Any]) -> dict[str, Any]:
    prompt = str(table.get("prompt", ""))
    return {**table, "prompt": str(HERE / "prompts" / prompt)} if prompt.endswith(".toml") else dict(table)


@cache
def _datasets() -> frozenset[str]:
    return frozenset(listed.name for listed in datasets())
