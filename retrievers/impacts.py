"""Weights of terms as Lucene's impacts: whole hundredths, in documents and in queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrievers.java import as_java, java
from retrievers.lucene_index import Hits, LuceneSearcher, LuceneWriter, weighted
from retrievers.postings import Rows

__all__ = ["STEPS", "Impacts", "write_impacts"]

STEPS = 100
"""Steps of a weight of 1."""


class Impacts:
    """Searches the impacts that `write_impacts` wrote.

    Scores are sums of products of whole numbers, which float32 adds up without error below 2 ** 24.

    Args:
        folder: of the index.
        threads: how many queries are searched side by side; 0 for as many as there are processors.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        similarity = java("io.anserini.search.similarity.ImpactSimilarity")()
        self._searcher = LuceneSearcher(folder, as_java(SIMILARITY, similarity), threads)

    def search(self, queries: Sequence[Sequence[tuple[int, float]]], counts: Sequence[int]) -> list[Hits]:
        """Indices and scores of the best documents of each query, (term, weight) each; best first."""
        with self._searcher.asking():
            asked = [weighted([(str(term), steps) for term, steps in _stepped(terms)]) for terms in queries]
            found = self._searcher.search(asked, counts)
        return [(indices, [score / STEPS**2 for score in scores]) for indices, scores in found]


SIMILARITY = "org.apache.lucene.search.similarities.Similarity"


def write_impacts(shards: Iterable[Rows], folder: Path) -> None:
    """Index the weights of documents, shard after shard.

    Raises:
        FileError: when the disk refuses.
    """
    with LuceneWriter(folder, _analyser(), impacts=True) as index:
        for rows in shards:
            for text in _texts(rows):
                index.add(text)
        index.finish()


def _texts(rows: Rows) -> Iterator[str]:
    """Each document as Lucene reads it: its terms, and after a bar what they weigh."""
    steps = np.rint(rows.weights * np.float32(STEPS)).astype(int)
    start = 0
    for count in rows.counts.tolist():
        held = slice(start, start + count)
        pairs = zip(rows.terms[held].tolist(), steps[held].tolist(), strict=True)
        yield " ".join(f"{term}|{weight}" for term, weight in pairs if weight)
        start += count


def _stepped(terms: Sequence[tuple[int, float]]) -> list[tuple[int, int]]:
    steps = np.rint(np.array([weight for _, weight in terms], np.float32) * np.float32(STEPS)).astype(int).tolist()
    return [(term, weight) for (term, _), weight in zip(terms, steps, strict=True) if weight]


def _analyser() -> Any:
    builder = java("org.apache.lucene.analysis.custom.CustomAnalyzer").builder()
    builder.withTokenizer("whitespace")
    builder.addTokenFilter("delimitedTermFrequency")
    return as_java("org.apache.lucene.analysis.Analyzer", builder.build())
