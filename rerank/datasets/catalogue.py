"""The datasets that have a name here: one TOML file each in `rerank/catalog/datasets`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from rerank import config
from rerank.checkpoints import cache
from rerank.errors import ConfigError, FileError

__all__ = ["Counts", "Entry", "Listed", "folder_of", "known", "names", "place_of", "read"]


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
        split: and the part of that id which names a split, so that another can take its place; or
        bright: the subset, for what comes from BRIGHT's repository on the hub; or
        obtain: what a person has to do to get a collection that nobody may hand on; its BEIR folder then has a place of
            its own (`folder_of`).
        own_document: queries are documents of the collection, and the benchmark does not let a query find itself.

    Raises:
        ConfigError: when it has not exactly one of `folder`, `ir_datasets`, `bright` and `obtain`.
    """

    description: str
    source: str
    licence: str
    counts: Counts = Counts()
    measures: tuple[str, ...] = ("nDCG@10",)
    folder: str = ""
    ir_datasets: str = ""
    split: str = ""
    bright: str = ""
    obtain: str = ""
    own_document: bool = False

    def __post_init__(self) -> None:
        if sum(map(bool, (self.folder, self.ir_datasets, self.bright, self.obtain))) != 1:
            raise ConfigError("a dataset has either a 'folder' or an 'ir_datasets' id, or says 'bright' or 'obtain'")


class Listed(NamedTuple):
    """A dataset as `rerank datasets` lists it."""

    name: str
    description: str
    counts: Counts


def names() -> list[Listed]:
    """Every dataset of the catalogue, by name."""
    return [Listed(name, entry.description, entry.counts) for name in known() for entry in [read(name)]]


@lru_cache(maxsize=1)
def known() -> tuple[str, ...]:
    """The names alone, sorted."""
    return tuple(sorted(path.stem for path in _shelf().glob("*.toml")))


def read(name: str) -> Entry:
    """The file of a dataset that is `known`."""
    return config.read(Entry, _shelf() / f"{name}.toml")


def folder_of(entry: Entry) -> Path:
    """Where the files lie that ship with the package."""
    return _shelf() / entry.folder


def place_of(name: str, entry: Entry) -> Path:
    """The BEIR folder of a collection that everybody has to obtain for themselves.

    Raises:
        FileError: when it is not there; says how to get it, and where to put it.
    """
    place = cache.folder() / "datasets" / name
    if not place.is_dir():
        raise FileError(
            f"dataset {name!r} may not be handed on: {entry.obtain} Then put its BEIR folder (corpus.jsonl, "
            f"queries.jsonl, qrels/test.tsv) at {place}"
        )
    return place


def _shelf() -> Path:
    return Path(str(files("rerank"))) / "catalog" / "datasets"
