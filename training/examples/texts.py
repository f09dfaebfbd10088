"""Texts by their ids, out of files that do not fit into memory: an index on disk says where each line begins."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import weakref
from collections.abc import Collection as Ids
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from rerank.checkpoints import cache
from rerank.datasets import Dataset
from rerank.datasets.beir import BeirFolder
from rerank.errors import FileError, InputError
from rerank.io.lines import decoded, placed_lines, shown

__all__ = ["Collection", "IndexedTexts", "Texts"]

Entry: TypeAlias = tuple[str, int, int, bytes | None]
"""Id, where its line begins, how long it is, and, where one cannot seek, the line itself."""


class Texts(Protocol):
    """Texts that have ids."""

    def find(self, ids: Ids[str]) -> dict[str, str]:
        """Those of these that there are."""


@dataclass(frozen=True)
class Collection:
    """Where the words behind ids stand.

    Args:
        documents: with their titles in front.
        queries: their texts.
        name: for errors.
    """

    documents: Texts
    queries: Texts
    name: str

    @classmethod
    def of_files(cls, documents: str | Path, queries: str | Path) -> Collection:
        """Two files: MS MARCO's `collection.tsv` and `queries.*.tsv`, or BEIR's `corpus.jsonl` and `queries.jsonl`."""
        return cls(IndexedTexts(documents), IndexedTexts(queries), f"{documents} and {queries}")

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> Collection:
        """A dataset of the toolkit; a BEIR folder's corpus is indexed, so that looking up does not read it all."""
        source = dataset.source
        documents = IndexedTexts(source.corpus_path) if isinstance(source, BeirFolder) else _Found(dataset)
        return cls(documents, _Asked(dataset), f"dataset {dataset.name!r}")


class IndexedTexts:
    """The texts of a file, looked up by seeking to their lines.

    `.tsv`: id, text; or id, address, title, body (`msmarco-docs.tsv`). `.jsonl`: BEIR's `_id`, `title`, `text`. The
    index is made at the first call, a minute for MS MARCO's 8.8 million passages, and kept in the library's cache for
    as long as the file does not change. Of a gzipped file it holds the texts themselves, because one cannot seek there.

    Args:
        path: the file.

    Raises:
        FileError: when the file is missing; at the first call, when a line has no id or an id occurs twice.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self._jsonl = self.path.name.removesuffix(".gz").endswith(".jsonl")
        self._open: tuple[int, sqlite3.Connection, int] | None = None
        if not self.path.is_file():
            raise FileError(f"there is no file {path}")

    def find(self, ids: Ids[str]) -> dict[str, str]:
        """Those of these texts that there are."""
        index, file = self._opened()
        found: dict[str, str] = {}
        for one in ids:
            row = index.execute("SELECT at, size, line FROM lines WHERE id = ?", (one,)).fetchone()
            if row is not None:
                found[one] = self._text(row[2] if row[2] is not None else os.pread(file, row[1], row[0]))
        return found

    def __len__(self) -> int:
        count: int = self._opened()[0].execute("SELECT count(*) FROM lines").fetchone()[0]
        return count

    @property
    def index_path(self) -> Path:
        """Where the index is: its name holds the file's path, size and time."""
        about = self.path.stat()
        key = hashlib.sha256(f"{self.path} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:24]
        return cache.folder() / "offsets" / f"{key}.sqlite"

    def _opened(self) -> tuple[sqlite3.Connection, int]:
        """The index and the file, opened anew in every process: neither survives a fork."""
        if self._open is None or self._open[0] != os.getpid():
            if not self.index_path.exists():
                _build(self.index_path, self.path, self._entries())
            index = sqlite3.connect(f"file:{self.index_path}?mode=ro", uri=True, check_same_thread=False)
            self._open = (os.getpid(), index, os.open(self.path, os.O_RDONLY))
            weakref.finalize(self, index.close)
            weakref.finalize(self, os.close, self._open[2])
        return self._open[1:]

    def _entries(self) -> Iterator[Entry]:
        zipped = self.path.name.endswith(".gz")
        for number, at, line in placed_lines(self.path):
            yield self._id(line, f"{self.path}:{number}"), at, len(line), line if zipped else None

    def _id(self, line: bytes, where: str) -> str:
        if not self._jsonl:
            return decoded(line.partition(b"\t")[0], where)
        name = _object(line, where).get("_id")
        if not isinstance(name, str | int) or name == "":
            raise FileError(f"{where}: '_id' is {name!r}; an id is wanted: {shown(line)}")
        return str(name)

    def _text(self, line: bytes) -> str:
        if self._jsonl:
            values = _object(line, str(self.path))
            return f"{values.get('title') or ''} {values.get('text') or ''}".strip()
        fields = decoded(line, str(self.path)).split("\t")
        if len(fields) not in (2, 4):
            raise FileError(
                f"{self.path}: {len(fields)} columns where 2 (id, text) or 4 (id, address, title, body) are wanted: "
                f"{shown(line)}"
            )
        return " ".join(fields[1:2] if len(fields) == 2 else fields[2:]).strip()


class _Found:
    """The documents of a dataset that knows how to find them, such as one of ir_datasets with its store."""

    def __init__(self, dataset: Dataset) -> None:
        self._source = dataset.source

    def find(self, ids: Ids[str]) -> dict[str, str]:
        """Those of these texts that there are."""
        return {doc_id: document.full_text for doc_id, document in self._source.find(frozenset(ids)).items()}


class _Asked:
    """The queries of a dataset, which it keeps in memory."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._texts: dict[str, str] = {}

    def find(self, ids: Ids[str]) -> dict[str, str]:
        """Those of these texts that there are."""
        if not self._texts:
            self._texts = {query.query_id: query.text for query in self._dataset.all_queries}
        return {one: self._texts[one] for one in ids if one in self._texts}


def _build(index: Path, path: Path, entries: Iterable[Entry]) -> None:
    """Written beside its place and moved there, so that a killed build leaves nothing that looks like an index."""
    index.parent.mkdir(parents=True, exist_ok=True)
    part = index.with_name(f".{index.name}.{secrets.token_hex(4)}")
    made = sqlite3.connect(part)
    try:
        made.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
        made.execute("CREATE TABLE lines(id TEXT, at INT, size INT, line BLOB)")
        made.executemany("INSERT INTO lines VALUES(?, ?, ?, ?)", entries)
        made.execute("CREATE UNIQUE INDEX ids ON lines(id)")  # sorted on disk, whatever the size
        made.commit()
        made.close()
        os.replace(part, index)
    except sqlite3.IntegrityError as error:
        twice = made.execute("SELECT id FROM lines GROUP BY id HAVING count(*) > 1 LIMIT 1").fetchone()[0]
        raise FileError(f"{path}: the id {twice!r} occurs twice") from error
    except sqlite3.OperationalError as error:
        raise FileError(f"cannot write the index of {path} at {index}: {error}") from error
    finally:
        made.close()
        part.unlink(missing_ok=True)


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        values = json.loads(decoded(line, where))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise FileError(f"{where}: no JSON ({error}): {shown(line)}") from error
    if not isinstance(values, dict):
        raise FileError(f"{where}: a JSON object should stand here: {shown(line)}")
    return values
