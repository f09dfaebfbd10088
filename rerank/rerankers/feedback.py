"""What a reader has called relevant says what else is: nearest neighbours of the query and of those documents."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rerank import checkpoints, registry
from rerank.errors import InputError
from rerank.fusion import fuse
from rerank.io import read_qrels
from rerank.pipeline import Stage
from rerank.types import Document, Qrels, Ranking

__all__ = ["Feedback", "Texts", "Vectors", "residual"]

Vectors: TypeAlias = Callable[[list[str]], Any]
"""Texts to their vectors, [texts, dim]: `SentenceTransformer(…).encode`, say."""


class Texts(Protocol):
    """Where documents are looked up: a `Dataset`."""

    def look_up(self, doc_ids: Collection[str]) -> Mapping[str, Document]:
        """The documents of these ids."""


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
    A candidate that is itself feedback is as near to itself as can be: leave such documents out of an evaluation
    (`drop`, and `residual` for the judgments).

    Args:
        vectors: texts to vectors; called once a call of `rerank`, with each text once.
        relevant: query_id -> the documents that were called relevant; a query without any is compared alone.
        pseudo: how many of the first candidates are taken for relevant unseen, where nobody called any so.
        drop: leave out of a ranking the documents that were called relevant.
        pool: "sum" or "max".
        k: of reciprocal rank fusion.

    Raises:
        InputError: when there is no such pool, or a number is negative.
    """

    name = "feedback"

    def __init__(
        self,
        vectors: Vectors,
        relevant: Mapping[str, Sequence[Document]] | None = None,
        *,
        pseudo: int = 0,
        drop: bool = False,
        pool: str = "sum",
        k: int = 60,
    ) -> None:
        if pool not in POOLS:
            raise InputError(f"pool={pool!r}; it may be {' or '.join(map(repr, POOLS))}")
        if pseudo < 0 or k < 0:
            raise InputError(f"pseudo={pseudo} and k={k}; neither may be negative")
        self.vectors, self.relevant, self.pool, self.k = vectors, relevant or {}, pool, k
        self.pseudo, self.drop = pseudo, drop

    @classmethod
    def of(
        cls,
        model: str,
        relevant: str | Path | None = None,
        *,
        pseudo: int = 0,
        drop: bool = False,
        pool: str = "sum",
        k: int = 60,
        device: str | None = None,
        dataset: Texts | None = None,
    ) -> Feedback:
        """As a pipeline's file says it.

        Args:
            model: a bi-encoder that gives the vectors: a checkpoint's name, hub id or folder.
            relevant: qrels (TREC or BEIR) whose relevant documents are the feedback.
            pseudo, drop, pool, k: as above.
            device: of the model.
            dataset: where the texts of these documents are.

        Raises:
            InputError: when there is neither feedback nor pseudo-feedback, or a document's text is nowhere.
        """
        if relevant is None and not pseudo:
            raise InputError(
                "feedback needs documents: give relevant= a file of qrels, or pseudo= a number of the best"
            )
        found = {} if relevant is None else _documents(read_qrels(relevant), dataset)
        judge = registry.load("judge", "bi-encoder")(checkpoints.fetch(model), device=device)
        return cls(judge.vectors, found, pseudo=pseudo, drop=drop, pool=pool, k=k)

    def rerank(self, rankings: Sequence[Ranking]) -> list[Ranking]:
        """Each ranking by the fused order; scores are sums of reciprocal ranks.

        Raises:
            InputError: when there are not as many vectors as texts, or one is not finite.
        """
        rankings = [self._left(ranking) for ranking in rankings]
        texts = list(dict.fromkeys(text for ranking in rankings for text in self._texts(ranking)))
        unit = dict(zip(texts, _unit(self.vectors(texts), len(texts)), strict=True)) if texts else {}
        return [self._reranked(ranking, unit) if ranking else ranking for ranking in rankings]

    def _probes(self, ranking: Ranking) -> list[str]:
        good = self.relevant.get(ranking.query.query_id, ()) or ranking.documents[: self.pseudo]
        return [ranking.query.text, *(document.full_text for document in good)]

    def _left(self, ranking: Ranking) -> Ranking:
        """Without what was called relevant, where that is to be dropped."""
        good = {document.doc_id for document in self.relevant.get(ranking.query.query_id, ())} if self.drop else set()
        return Ranking(ranking.query, tuple(each for each in ranking if each.document.doc_id not in good))

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


def residual(qrels: Qrels, relevant: Mapping[str, Sequence[Document]]) -> dict[str, dict[str, int]]:
    """The judgments that are left to evaluate by, once documents have been given away as feedback."""
    given = {query_id: {document.doc_id for document in documents} for query_id, documents in relevant.items()}
    return {
        query_id: {doc_id: value for doc_id, value in judged.items() if doc_id not in given.get(query_id, ())}
        for query_id, judged in qrels.items()
    }


def _documents(qrels: Qrels, dataset: Texts | None) -> dict[str, list[Document]]:
    """The relevant documents of each query, with their texts."""
    wanted = {query_id: [doc_id for doc_id, value in judged.items() if value > 0] for query_id, judged in qrels.items()}
    if dataset is None:
        raise InputError("the texts of feedback documents are in a dataset; give one to the pipeline")
    texts = dataset.look_up({doc_id for doc_ids in wanted.values() for doc_id in doc_ids})
    return {query_id: [texts[doc_id] for doc_id in doc_ids] for query_id, doc_ids in wanted.items()}


def _unit(vectors: Any, count: int) -> NDArray[np.float64]:
    """Vectors of length 1; what has no direction stays 0."""
    found = np.asarray(vectors, np.float64)
    if found.ndim != 2 or len(found) != count or not np.isfinite(found).all():
        raise InputError(f"{count} texts gave vectors of shape {list(found.shape)}; one finite vector a text is wanted")
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    unit: NDArray[np.float64] = found / np.where(norms > 0, norms, 1.0)
    return unit
