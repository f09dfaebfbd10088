"""Indices and scores that a search found, as rankings of documents."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from rerank.types import Candidate, Document, Query, Ranking

__all__ = ["Rankings"]


class Rankings:
    """Makes the rankings of some queries; those that find the same document share it.

    Args:
        documents: of the index.
        cutoff: the most documents of a ranking.
    """

    def __init__(self, documents: Sequence[Document], cutoff: int) -> None:
        self.documents, self.cutoff = documents, int(cutoff)
        self._fetched: dict[int, Document] = {}

    def of(self, query: Query, indices: Sequence[int], scores: Sequence[float], without: frozenset[str]) -> Ranking:
        """The ranking of a query, best first, less the documents whose ids are in `without`."""
        for index in indices:
            if index not in self._fetched:
                self._fetched[index] = self.documents[index]
        found = (Candidate(self._fetched[index], score) for index, score in zip(indices, scores, strict=True))
        kept = (candidate for candidate in found if candidate.document.doc_id not in without)
        return Ranking(query, tuple(islice(kept, self.cutoff)))
