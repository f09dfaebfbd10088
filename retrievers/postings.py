"""Weights of terms in documents, term by term, and the search over them that leaves no document out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retrievers.mapped import new_array

__all__ = ["Floats", "Postings", "Rows", "best", "join", "load_rows", "save_rows"]

Floats: TypeAlias = NDArray[np.float32]

STARTS, DOCUMENTS, WEIGHTS = "starts.npy", "postings.npy", "weights.npy"


@dataclass(frozen=True, slots=True)
class Rows:
    """Sparse vectors of some texts.

    Args:
        counts: how many terms each has, int64 [texts].
        terms: the terms of one text after the other, rising within each, int32 [entries].
        weights: of those terms, above 0, float32 [entries].
        pruned: weights that were left out because a text had too many.
        cut: texts that were longer than the model reads.
    """

    counts: NDArray[np.int64]
    terms: NDArray[np.int32]
    weights: Floats
    pruned: int = 0
    cut: int = 0


class Postings:
    """For each term the documents that hold it, in their order, and its weight in each.

    Args:
        starts: where the documents of each term begin, and where those of the last end: [terms + 1].
        documents: indices of documents, term after term: [entries].
        weights: float32 [entries].
        count: documents of the collection.
    """

    def __init__(self, starts: NDArray[Any], documents: NDArray[Any], weights: Floats, count: int) -> None:
        self.starts, self.documents, self.weights, self.count = starts, documents, weights, count

    @classmethod
    def open(cls, folder: Path, count: int) -> Postings:
        """Those that `join` wrote, memory-mapped."""
        starts, documents, weights = (
            np.asarray(np.load(folder / name, mmap_mode="r")) for name in (STARTS, DOCUMENTS, WEIGHTS)
        )
        return cls(starts, documents, weights, count)

    def held_by(self, term: int) -> int:
        """How many documents hold a term."""
        return int(self.starts[term + 1] - self.starts[term])

    def scores(self, terms: Iterable[tuple[int, float]]) -> Floats:
        """Σ over (term, its weight in the query) of the weights' products, for every document: float32 [documents].

        Terms are added up in the order in which they come; no bit depends on anything else.
        """
        scores = np.zeros(self.count, np.float32)
        for term, weight in terms:
            held = slice(self.starts[term], self.starts[term + 1])
            scores[self.documents[held]] += np.float32(weight) * self.weights[held]  # a document stands there once
        return scores

    def scores_of(self, terms: Iterable[tuple[int, float]], documents: NDArray[np.int64]) -> Floats:
        """The same of some documents alone: float32 [some], the very bits."""
        scores = np.zeros(len(documents), np.float32)
        for term, weight in terms:
            start, stop = self.starts[term], self.starts[term + 1]
            held = self.documents[start:stop]
            places = np.searchsorted(held, documents)  # documents of a term stand in their order
            there = places < len(held)
            there[there] = held[places[there]] == documents[there]
            scores[there] += np.float32(weight) * self.weights[start:stop][places[there]]
        return scores


def best(scores: Floats, count: int) -> tuple[list[int], list[float]]:
    """Index and score of the `count` highest scores above 0, best first; equal ones in the order of the collection."""
    found = np.flatnonzero(scores > 0)
    if len(found) > count:
        least = np.partition(scores[found], -count)[-count]
        found = found[scores[found] >= least]  # all that tie with the last: the stable sort below decides
    order = found[np.argsort(-scores[found], kind="stable")[:count]]
    return order.tolist(), scores[order].tolist()


def save_rows(path: Path, rows: Rows) -> None:
    """Write a shard."""
    totals = np.array([rows.pruned, rows.cut], np.int64)
    np.savez(path, counts=rows.counts, terms=rows.terms, weights=rows.weights, totals=totals)


def load_rows(path: Path) -> Rows:
    """Read a shard."""
    with np.load(path) as said:
        pruned, cut = said["totals"].tolist()
        return Rows(said["counts"], said["terms"], said["weights"], pruned, cut)


def join(paths: Sequence[Path], folder: Path, terms: int) -> dict[str, int]:
    """All shards as postings on disk; one shard is in memory at a time.

    Args:
        paths: of the shards, in the order of the collection.
        folder: of the index.
        terms: of the vocabulary.

    Returns:
        How many weights there are, how many were pruned, and how many texts were cut.
    """
    held, totals = np.zeros(terms, np.int64), {"weights": 0, "pruned_weights": 0, "cut_documents": 0}
    for path in paths:
        rows = load_rows(path)
        held += np.bincount(rows.terms, minlength=terms)
        for name, amount in zip(totals, (len(rows.terms), rows.pruned, rows.cut), strict=True):
            totals[name] += amount
    starts = np.concatenate([[0], held.cumsum()])
    np.save(folder / STARTS, starts)
    _place(paths, folder, starts)
    return totals


def _place(paths: Sequence[Path], folder: Path, starts: NDArray[np.int64]) -> None:
    """Every entry to where its term's are, documents in their order."""
    entries = (int(starts[-1]),)
    documents = new_array(folder / DOCUMENTS, np.dtype(np.int32), entries)
    weights = new_array(folder / WEIGHTS, np.dtype(np.float32), entries)
    following, first = starts[:-1].copy(), 0
    for rows in map(load_rows, paths):
        order = np.argsort(rows.terms, kind="stable")
        terms = rows.terms[order]
        held = np.bincount(terms, minlength=len(following))
        before = np.concatenate([[0], held.cumsum()])[:-1]  # entries of smaller terms in this shard
        places = following[terms] + np.arange(len(terms)) - before[terms]
        documents[places] = np.repeat(np.arange(first, first + len(rows.counts), dtype=np.int32), rows.counts)[order]
        weights[places] = rows.weights[order]
        following += held
        first += len(rows.counts)
    documents.flush()
    weights.flush()
