"""Documents on disk, fetched by index: one line of JSON each, and where each line begins."""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np

from rerank.errors import InputError
from rerank.types import Document

__all__ = ["DocumentStore", "DocumentWriter", "copy_documents"]

LINES = "documents.jsonl"
OFFSETS = "offsets.npy"


class DocumentStore(Sequence[Document]):
    """The documents of a folder, in the order in which they were written. Both files are memory-mapped."""

    def __init__(self, folder: Path) -> None:
        # plain arrays over the mapped files: a slice of a memmap costs several times as much
        self._offsets = np.asarray(np.load(folder / OFFSETS, mmap_mode="r"))
        self._lines = np.asarray(np.memmap(folder / LINES, dtype=np.uint8, mode="r"))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[one] for one in range(len(self))[index]]
        index = range(len(self))[index]
        line = json.loads(self._lines[self._offsets[index] : self._offsets[index + 1]].tobytes())
        return Document(line["_id"], line["text"], line.get("title", ""))


class DocumentWriter:
    """Writes the documents of a store one by one; leaving the `with` block completes it.

    Raises:
        InputError: when an id occurs twice.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / LINES).open("wb")
        self._offsets = array("q", [0])
        self._ids: set[str] = set()
        self._digest = hashlib.sha256()

    def __enter__(self) -> DocumentWriter:
        return self

    def add(self, document: Document) -> None:
        """Append a document."""
        if document.doc_id in self._ids:
            raise InputError(f"the document id {document.doc_id!r} occurs twice; ids must be unique in a collection")
        self._ids.add(document.doc_id)
        line = _line(document)
        self._digest.update(line)
        self._offsets.append(self._offsets[-1] + self._file.write(line))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def fingerprint(self) -> str:
        """sha256 of everything written so far: ids, titles, texts and their order."""
        return self._digest.hexdigest()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()
        if error is None:
            np.save(self._folder / OFFSETS, np.frombuffer(self._offsets, dtype=np.int64))


def copy_documents(source: Path, folder: Path) -> None:
    """Copy the documents of an index into another folder."""
    for name in (LINES, OFFSETS):
        shutil.copyfile(source / name, folder / name)


def _line(document: Document) -> bytes:
    values = {"_id": document.doc_id, "title": document.title, "text": document.text}
    # a lone surrogate cannot be written as UTF-8, so ASCII escapes carry it
    return json.dumps(values).encode("ascii") + b"\n"
