"""Judgments: TREC's four columns, or BEIR's three with or without a header line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from numbers import Integral
from pathlib import Path

from rerank.errors import FileError, InputError
from rerank.io.atomic import atomic_write
from rerank.io.lines import decoded, lines, shown
from rerank.types import LARGEST_RELEVANCE, Qrels

__all__ = ["judgments", "read_qrels", "write_qrels"]

_INTEGER = re.compile(rb"[+-]?[0-9]+")
_HEADERS = {b"query-id", b"query_id", b"queryid", b"qid", b"query"}


def read_qrels(path: str | Path) -> dict[str, dict[str, int]]:
    """query_id -> doc_id -> relevance, in the order of the file.

    Three columns are BEIR's (`query-id corpus-id score`, a header line or none), four are TREC's (`query_id 0 doc_id
    relevance`); the first line decides for the file.

    Raises:
        FileError: when the file cannot be read or holds no judgment, a line has another number of columns or a
            relevance that is no whole number or beyond ±1,000,000, or a document is judged twice for a query.
    """
    qrels: dict[str, dict[str, int]] = {}
    seen: dict[tuple[str, str], int] = {}
    for number, query_id, doc_id, relevance in judgments(path):
        first = seen.setdefault((query_id, doc_id), number)
        if first != number:
            raise FileError(
                f"{path}:{number}: document {doc_id!r} is judged for query {query_id!r} in line {first} too"
            )
        qrels.setdefault(query_id, {})[doc_id] = relevance
    if not qrels:
        raise FileError(f"{path} holds a header line and no judgment")
    return qrels


def write_qrels(path: str | Path, qrels: Qrels) -> None:
    """Write judgments: BEIR's columns when the name ends in `.tsv` or `.tsv.gz`, else TREC's.

    Raises:
        InputError: when an id is empty or holds white space, a relevance is no whole number or beyond ±1,000,000, or
            there is no judgment.
        FileError: when the file cannot be written.
    """
    beir = str(path).removesuffix(".gz").endswith(".tsv")
    if not any(qrels.values()):
        raise InputError(f"there is no judgment to write to {path}")
    with atomic_write(path) as file:
        file.write("query-id\tcorpus-id\tscore\n" if beir else "")
        for query_id, judged in qrels.items():
            for doc_id, relevance in judged.items():
                _check_ids(query_id, doc_id)
                _check_relevance(query_id, doc_id, relevance)
                file.write(f"{query_id}\t{doc_id}\t{relevance}\n" if beir else f"{query_id} 0 {doc_id} {relevance}\n")


def judgments(path: str | Path) -> Iterator[tuple[int, str, str, int]]:
    """Line, query_id, doc_id and relevance of every judgment, one at a time; whether one comes twice is not seen.

    Raises:
        FileError: as `read_qrels` does otherwise.
    """
    columns = 0
    for number, line in lines(path):
        fields = [field.strip() for field in line.split(b"\t")] if b"\t" in line else line.split()
        if not columns and fields[0].lower() in _HEADERS and not _INTEGER.fullmatch(fields[-1]):
            columns = len(fields)
            continue
        columns = columns or len(fields)
        if columns not in (3, 4) or len(fields) != columns or not all(fields):
            wanted = columns if columns in (3, 4) else "3 (BEIR) or 4 (TREC)"
            raise FileError(f"{path}:{number}: {len(fields)} columns where {wanted} are wanted: {shown(line)}")
        where = f"{path}:{number}"
        yield number, decoded(fields[0], where), decoded(fields[-2], where), _relevance(fields[-1], line, where)


def _relevance(field: bytes, line: bytes, where: str) -> int:
    if not _INTEGER.fullmatch(field):
        raise FileError(f"{where}: the relevance {shown(field)} is no whole number: {shown(line)}")
    digits = field.lstrip(b"+-").lstrip(b"0") or b"0"
    if len(digits) > len(str(LARGEST_RELEVANCE)) or int(digits) > LARGEST_RELEVANCE:  # int() wants few digits
        raise FileError(f"{where}: the relevance {shown(field)} is beyond ±{LARGEST_RELEVANCE:,}: {shown(line)}")
    return -int(digits) if field.startswith(b"-") else int(digits)


def _check_ids(query_id: str, doc_id: str) -> None:
    for what, word in (("query", query_id), ("document", doc_id)):
        if word.split() != [word]:
            raise InputError(f"the {what} id {word!r} is empty or holds white space, which parts the columns of qrels")


def _check_relevance(query_id: str, doc_id: str, relevance: int) -> None:
    whole = isinstance(relevance, Integral) and not isinstance(relevance, bool)
    if not whole or not -LARGEST_RELEVANCE <= relevance <= LARGEST_RELEVANCE:
        raise InputError(
            f"the relevance of document {doc_id!r} for query {query_id!r} is no whole number within "
            f"±{LARGEST_RELEVANCE:,}"
        )
