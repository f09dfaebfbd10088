"""The datasets that have a name here: one TOML file each in `rerank/catalog/datasets`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from rerank import config
from rerank.errors import ConfigError

__all__ = ["Counts", "Entry", "Listed", "folder_of", "known", "names", "read"]


@dataclass(frozen=True)
class Counts:
    """How large a dataset is; None where that is not known for certain."""

    documents: int | None = None
    queries: int | None = None
    judgments: int | None = None


@dataclass(frozen=True)
class Entry:
    """A dataset's file.

    Args:
        description: one line.
        source: where it comes from.
        licence: as its makers state it.
        counts: of the split that is loaded when none is named.
        measures: the official ones, by ir-measures name.
        folder: the folder beside the file, for what ships with the package; or
        ir_datasets: its id, for what ir_datasets downloads,
        split: and the part of that id which names a split, so that another can take its place.

    Raises:
        ConfigError: when it has not exactly one of `folder` and `ir_datasets`.
    """

    description: str
    source: str
    licence: str
    counts: Counts = Counts()
    measures: tuple[str, ...] = ("nDCG@10",)
    folder: str = ""
    ir_datasets: str = ""
    split: str = ""

    def __post_init__(self) -> None:
        if bool(self.folder) == bool(self.ir_datasets):
            raise ConfigError("a dataset has either a 'folder' or an 'ir_datasets' id")


class Listed(NamedTuple):
    """A dataset as `rerank datasets` lists it."""

    name: str
    description: str
    counts: Counts


def names() -> list[Listed]:
    """Every dataset of the catalogue, by name."""
    return [Listed(name, entry.description, entry.counts) for name in known() for entry in [read(name)]]


@cache
def known() -> tuple[str, ...]:
    """The names alone, sorted."""
    return tuple(sorted(path.stem for path in _shelf().glob("*.toml")))


def read(name: str) -> Entry:
    """The file of a dataset that is `known`."""
    return config.read(Entry, _shelf() / f"{name}.toml")


def folder_of(entry: Entry) -> Path:
    """Where the files lie that ship with the package."""
    return _shelf() / entry.folder


def _shelf() -> Path:
    return Path(str(files("rerank"))) / "catalog" / "datasets"
