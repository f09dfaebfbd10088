"""What a reader has called relevant says what else is: nearest neighbours of the query and of those documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rerank.errors import InputError
from rerank.fusion import fuse
from rerank.pipeline import Stage
from rerank.types import Document, Ranking

__all__ = ["Feedback", "Vectors"]

Vectors: TypeAlias = Callable[[list[str]], Any]
"""Texts to their vectors, [texts, dim]: `SentenceTransformer(…).encode`, say."""

POOLS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "sum": lambda similarities: similarities.sum(0),
    "max": lambda similarities: similarities.max(0),
}


class Feedback(Stage):
    """Relevance feedback by nearest neighbours, fused with the order that was there (Baumgärtner et al., 2022,
    https://arxiv.org/abs/2210.10695).

    A candidate's similarity is the sum (or the greatest) of the cosines of its vector and those of the query and of
    each relevant document. By it candidates are ordered, and that order is fused with the incoming one by reciprocal
    ranks.
    A candidate that is itself feedback is as near to itself as can be: leave such documents out of an evaluation.

    Args:
        vectors: texts to vectors; called once a call of `rerank`, with each text once.
        relevant: query_id -> the documents that were called relevant; a query without any is compared alone.
        pool: "sum" or "max".
        k: of reciprocal rank fusion.

    Raises:
        InputError: when there is no such pool.
    """

    name = "feedback"

    def __init__(
        self, vectors: Vectors, relevant: Mapping[str, Sequence[Document]], *, pool: str = "sum", k: int = 60
    ) -> None:
        if pool not in POOLS:
            raise InputError(f"pool={pool!r}; it may be {' or '.join(map(repr, POOLS))}")
        self.vectors, self.relevant, self.pool, self.k = vectors, relevant, pool, k

    def rerank(self, rankings: Sequence[Ranking]) -> list[Ranking]:
        """Each ranking by the fused order; scores are sums of reciprocal ranks.

        Raises:
            InputError: when there are not as many vectors as texts, or one is not finite.
        """
        texts = list(dict.fromkeys(text for ranking in rankings for text in self._texts(ranking)))
        unit = dict(zip(texts, _unit(self.vectors(texts), len(texts)), strict=True)) if texts else {}
        return [self._reranked(ranking, unit) if ranking else ranking for ranking in rankings]

    def _probes(self, ranking: Ranking) -> list[str]:
        good = self.relevant.get(ranking.query.query_id, ())
        return [ranking.query.text, *(document.full_text for document in good)]

    def _texts(self, ranking: Ranking) -> list[str]:
        return [*self._probes(ranking), *(document.full_text for document in ranking.documents)]

    def _reranked(self, ranking: Ranking, unit: Mapping[str, NDArray[np.float64]]) -> Ranking:
        probes = np.stack([unit[text] for text in self._probes(ranking)])
        candidates = np.stack([unit[document.full_text] for document in ranking.documents])
        near = Ranking.by_score(ranking.query, ranking.documents, POOLS[self.pool](probes @ candidates.T).tolist())
        query_id, count = ranking.query.query_id, len(ranking)
        orders = [
            {query_id: {document.doc_id: float(count - index) for index, document in enumerate(some.documents)}}
            for some in (ranking, near)
        ]
        fused = fuse(orders, "rrf", k=self.k)[query_id]
        return Ranking.by_score(
            ranking.query, ranking.documents, [fused[document.doc_id] for document in ranking.documents]
        )


def _unit(vectors: Any, count: int) -> NDArray[np.float64]:
    """Vectors of length 1; what has no direction stays 0."""
    found = np.asarray(vectors, np.float64)
    if found.ndim != 2 or len(found) != count or not np.isfinite(found).all():
        raise InputError(f"{count} texts gave vectors of shape {list(found.shape)}; one finite vector a text is wanted")
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    unit: NDArray[np.float64] = found / np.where(norms > 0, norms, 1.0)
    return unit
