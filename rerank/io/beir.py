"""BEIR folders: `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`, any of them gzipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rerank.errors import FileError, InputError
from rerank.io.atomic import atomic_write, json_line
from rerank.io.fields import identifier, optional_text, text_of
from rerank.io.lines import json_lines
from rerank.io.qrels import write_qrels
from rerank.types import Document, Qrels, Query

__all__ = ["read_corpus", "read_queries", "write_beir"]


def read_corpus(path: str | Path) -> Iterator[Document]:
    """The documents of a `corpus.jsonl`, one at a time: `_id`, `text` (may be empty) and perhaps `title`.

    Raises:
        FileError: when the file cannot be read or is empty, a line is no such object, or an id occurs twice.
    """
    for where, doc_id, values in _identified(path, "document"):
        yield Document(doc_id, text_of(values, "text", where), optional_text(values, "title", where))


def read_queries(path: str | Path) -> Iterator[Query]:
    """The queries of a `queries.jsonl`, one at a time: `_id`, `text` and perhaps `instruction`.

    Raises:
        FileError: when the file cannot be read or is empty, a line is no such object, a query has no text, or an id
            occurs twice.
    """
    for where, query_id, values in _identified(path, "query"):
        text, instruction = optional_text(values, "text", where), optional_text(values, "instruction", where)
        try:
            yield Query(query_id, text, instruction)
        except InputError as error:
            raise FileError(f"{where}: {error}") from error


def write_beir(
    folder: str | Path, documents: Iterable[Document], queries: Iterable[Query], qrels: Qrels, split: str = "test"
) -> None:
    """Write a collection as a BEIR folder, which is made when it is not there; each file is written atomically.

    Args:
        folder: where to; files of these names in it are replaced, others stay.
        documents: may be a generator.
        queries: those of every split.
        qrels: the judgments of this split.
        split: names the file of judgments.

    Raises:
        InputError: when an id occurs twice or cannot stand in qrels.
        FileError: when a file cannot be written.
    """
    folder = Path(folder)
    try:
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder / 'qrels'}: {error.strerror or error}") from error
    _write(folder / "corpus.jsonl", "document", ((document.doc_id, _document(document)) for document in documents))
    _write(folder / "queries.jsonl", "query", ((query.query_id, _query(query)) for query in queries))
    write_qrels(folder / "qrels" / f"{split}.tsv", qrels)


def _identified(path: str | Path, kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """`path:line`, id and object of every line; ids are unique."""
    seen: dict[str, int] = {}
    for number, values in json_lines(path):
        record_id = identifier(values, "_id", f"{path}:{number}")
        first = seen.setdefault(record_id, number)
        if first != number:
            raise FileError(f"{path}:{number}: the {kind} id {record_id!r} stands in line {first} too")
        yield f"{path}:{number}", record_id, values


def _write(path: Path, kind: str, records: Iterable[tuple[str, dict[str, str]]]) -> None:
    seen: set[str] = set()
    with atomic_write(path) as file:
        for record_id, values in records:
            if not record_id or record_id in seen:
                raise InputError(f"{path}: the {kind} id {record_id!r} is empty or occurs twice")
            seen.add(record_id)
            file.write(json_line(values))
        if not seen:
            raise InputError(f"there is no {kind} to write to {path}")


def _document(document: Document) -> dict[str, str]:
    return {"_id": document.doc_id, "title": document.title, "text": document.text}


def _query(query: Query) -> dict[str, str]:
    values = {"_id": query.query_id, "text": query.text}
    return {**values, "instruction": query.instruction} if query.instruction else values
