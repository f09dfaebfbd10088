"""Judgments and runs: all judged documents of a query, or the candidates of a run, as one example.

RankDistiLLM (Schlatt et al., 2024, https://arxiv.org/abs/2405.07920) is published as TREC runs whose order is the
teacher's: read them with `teacher="order"`.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path

from rerank.datasets import Dataset
from rerank.errors import FileError, InputError
from rerank.io.qrels import judgments
from rerank.io.runs import best_first, run_lines
from training.examples.joined import Named
from training.examples.record import BadExample
from training.examples.stream import Note

__all__ = ["TEACHERS", "Judgments", "judged", "of_dataset", "pairs_of_dataset", "ranked"]

TEACHERS = ("scores", "order")
"""What a run may be: a teacher's scores, or a teacher's order."""

Judged = Iterable[tuple[str, str, Mapping[str, int]]]


class Judgments:
    """The judgments of a file, on disk, so that 500,000 queries cost no memory; forgotten with the object.

    Raises:
        FileError: as `rerank.io.read_qrels` does.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._table = sqlite3.connect("", check_same_thread=False)  # a temporary file of SQLite's own
        weakref.finalize(self, self._table.close)
        self._table.execute("CREATE TABLE judged(query TEXT, document TEXT, relevance INT, line INT)")
        rows = ((query_id, doc_id, relevance, line) for line, query_id, doc_id, relevance in judgments(path))
        self._table.executemany("INSERT INTO judged VALUES(?, ?, ?, ?)", rows)
        try:
            self._table.execute("CREATE UNIQUE INDEX pair ON judged(query, document)")
        except sqlite3.IntegrityError as error:
            twice = "SELECT query, document FROM judged GROUP BY query, document HAVING count(*) > 1 LIMIT 1"
            query_id, doc_id = self._table.execute(twice).fetchone()
            raise FileError(f"{path}: document {doc_id!r} is judged twice for query {query_id!r}") from error

    def of(self, query_id: str) -> dict[str, int]:
        """doc_id -> relevance."""
        rows = self._table.execute("SELECT document, relevance FROM judged WHERE query = ? ORDER BY line", (query_id,))
        return dict(rows.fetchall())

    def __iter__(self) -> Iterator[tuple[str, str, dict[str, int]]]:
        """`path:line`, query_id and its judgments, in the order in which queries first occur."""
        rows = self._table.execute(
            "SELECT query, document, relevance, min(line) OVER (PARTITION BY query) AS first FROM judged "
            "ORDER BY first, line"
        )
        for (first, query_id), group in groupby(rows, key=lambda row: (row[3], row[0])):
            yield f"{self.path}:{first}", query_id, {doc_id: relevance for _, doc_id, relevance, _ in group}


def judged(all_judged: Judged) -> Iterator[Named | BadExample]:
    """An example for each query, with all the documents that were judged for it."""
    for where, query_id, documents in all_judged:
        if not any(relevance > 0 for relevance in documents.values()):
            detail = f"none of the {len(documents)} judged for {query_id!r}"
            yield BadExample("no relevant document", detail, where)
        else:
            yield Named(where, query_id, tuple(documents), tuple(map(float, documents.values())))


def ranked(
    path: str | Path, qrels: Judgments | None = None, *, teacher: str | None = None, cutoff: int | None = None
) -> Iterator[Named | BadExample | Note]:
    """An example for each query of a TREC run: its candidates, best first as trec_eval reads them.

    The lines of a query stand together, as every tool writes them; one query at a time is held.

    Args:
        path: the run.
        qrels: gives relevance; a candidate without a judgment counts as irrelevant, and is counted.
        teacher: "scores" when the run's scores are a teacher's, "order" when its order is, None when it is a first
            stage's, which teaches nothing.
        cutoff: the best so many of each query; the others are counted.

    Raises:
        InputError: when the teacher is something else, the cutoff is below 1, or there is neither teacher nor qrels.
        FileError: when the file cannot be read, or a line is none of a run.
    """
    _check(teacher, cutoff, qrels)
    for where, query_id, scores in _queries(path):
        if isinstance(scores, BadExample):
            yield scores
            continue
        kept = dict(islice(scores.items(), cutoff))
        if len(kept) < len(scores):
            yield Note("candidates below the cutoff, left out", len(scores) - len(kept))
        grades = None if qrels is None else qrels.of(query_id)
        if grades is not None and (missing := sum(doc_id not in grades for doc_id in kept)):
            yield Note("candidates without a judgment, taken for irrelevant", missing)
        relevance = None if grades is None else tuple(float(grades.get(doc_id, 0)) for doc_id in kept)
        if teacher is None and not any(grade > 0 for grade in relevance or ()):
            yield _unlabelled(query_id, len(kept), where, "" if grades or qrels is None else str(qrels.path))
            continue
        taught = tuple(kept.values()) if teacher == "scores" else None
        order = tuple(range(len(kept))) if teacher == "order" else None
        yield Named(where, query_id, tuple(kept), relevance, taught, order)


def _unlabelled(query_id: str, candidates: int, where: str, unjudged_in: str) -> BadExample:
    """Why the judgments say nothing about a query: they are of other queries, or of none of its candidates."""
    if unjudged_in:
        return BadExample("unknown query", f"{query_id!r} has no judgment in {unjudged_in}", where)
    return BadExample("no relevant document", f"none of the {candidates} candidates of {query_id!r}", where)


def _queries(path: str | Path) -> Iterator[tuple[str, str, dict[str, float] | BadExample]]:
    """`path:line`, query_id and its candidates, best first; or why they are none."""
    done: set[str] = set()
    for query_id, group in groupby(run_lines(path), key=lambda line: line[1]):
        numbers, _, doc_ids, scores = zip(*group, strict=True)
        where = f"{path}:{numbers[0]}"
        if query_id in done:
            detail = f"{query_id!r}; the lines of a query stand together in a run"
            yield where, query_id, BadExample("query comes again", detail, where)
        elif len(set(doc_ids)) < len(doc_ids):
            twice = next(doc_id for index, doc_id in enumerate(doc_ids) if doc_id in doc_ids[:index])
            yield where, query_id, BadExample("document twice", f"{twice!r} under query {query_id!r}", where)
        else:
            yield where, query_id, best_first(dict(zip(doc_ids, scores, strict=True)))
        done.add(query_id)


def pairs_of_dataset(name: str) -> Iterator[Named]:
    """The training pairs (`docpairs`) of an ir_datasets id: a relevant document and one that is not."""
    import ir_datasets

    for number, pair in enumerate(ir_datasets.load(name).docpairs_iter(), start=1):
        yield Named(f"{name}: pair {number}", pair.query_id, (pair.doc_id_a, pair.doc_id_b), (1.0, 0.0))


def of_dataset(dataset: Dataset) -> Judged:
    """The judgments of a dataset, as `judged` wants them."""
    for query_id, documents in dataset.qrels.items():
        yield f"{dataset.name}: query {query_id}", query_id, documents


def _check(teacher: str | None, cutoff: int | None, qrels: Judgments | None) -> None:
    if teacher is not None and teacher not in TEACHERS:
        raise InputError(f"teacher={teacher!r}; a run's 'scores' or its 'order' may be a teacher's")
    if cutoff is not None and cutoff < 1:
        raise InputError(f"a cutoff of {cutoff} takes no candidate; choose at least 1")
    if teacher is None and qrels is None:
        raise InputError("a run without qrels has no labels, unless its scores or its order are a teacher's; say which")
