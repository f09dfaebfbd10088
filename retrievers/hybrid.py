"""Several first stages as one: what each of them finds, fused by rank or by score."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rerank import registry, stages
from rerank.datasets import Dataset
from rerank.errors import ConfigError, InputError
from rerank.fusion import METHODS, fuse
from rerank.pipeline import NO_EXCLUSIONS, Retriever, Stage, check_cutoff
from rerank.types import Candidate, Document, Query, Ranking

__all__ = ["Hybrid"]


class Hybrid(Stage):
    """Fuses retrievers: `Hybrid([BM25.of(dataset), Dense.of(dataset, model=…)]) % 100 >> reranker`.

    Scores are fused ones: sums of 1 / (k + rank) for `rrf`.

    Args:
        retrievers: two or more, over the same collection.
        method: one of `rerank.fusion.METHODS`: rrf, combsum, combmnz, weighted, borda.
        weights: one for each retriever; 1 each when left out.
        k: of `rrf`.
        cutoff: how many documents each retriever is asked for, at least as many as are wanted of all.

    Raises:
        InputError: with fewer than two retrievers, indexes of different documents, or weights that do not fit them.
        UnknownName: when no method has the name.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        *,
        method: str = "rrf",
        weights: Sequence[float] | None = None,
        k: int = 60,
        cutoff: int = 1000,
    ) -> None:
        if len(retrievers) < 2:
            raise InputError(f"a hybrid needs two retrievers or more; there {'is 1' if retrievers else 'are none'}")
        check_cutoff("hybrid", cutoff)
        _check_same_documents(retrievers)
        self.retrievers, self.method, self.weights, self.k, self.cutoff = list(retrievers), method, weights, k, cutoff
        sample = [{"q": {"d": 1.0}}] * len(retrievers)
        fuse(sample, method, weights=weights, k=k)  # a slip shows now, and not after an hour of retrieval
        self.name = "+".join(str(getattr(retriever, "name", type(retriever).__name__)) for retriever in retrievers)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        *,
        retrievers: Sequence[Mapping[str, Any]],
        method: str = "rrf",
        weights: Sequence[float] | None = None,
        k: int = 60,
        each: int = 1000,
    ) -> Hybrid:
        """From a pipeline file: `retrievers = [{retriever = "bm25"}, {retriever = "dense", model = "…"}]`.

        Args:
            dataset: what all of them search.
            retrievers: tables as of a `[[stage]]`.
            method, weights, k: as of the class.
            each: the class's cutoff: how many documents each retriever is asked for.
        """
        if method not in METHODS:
            raise registry.unknown("fusion method", method, METHODS)
        made = []
        for number, table in enumerate(retrievers, start=1):
            where = f"retriever {number} of the hybrid"
            if not isinstance(table, Mapping) or "retriever" not in table:
                raise ConfigError(f'{where} is {table!r}; write {{retriever = "bm25"}}, with its options')
            made.append(stages.make(table, dataset, where)[0])
        return cls(made, method=method, weights=weights, k=k, cutoff=each)

    def retrieve(
        self, queries: Sequence[Query], cutoff: int, *, exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS
    ) -> list[Ranking]:
        """The best `cutoff` documents of each query; see `rerank.pipeline.Retriever`.

        Raises:
            InputError: when two retrievers call different documents by the same id.
        """
        check_cutoff(self.name, cutoff)
        if not queries:
            return []
        depth = max(self.cutoff, int(cutoff))
        found = [retriever.retrieve(queries, depth, exclude=exclude) for retriever in self.retrievers]
        of_query = zip(*found, strict=True)
        return [self._fused(query, several)[:cutoff] for query, several in zip(queries, of_query, strict=True)]

    def _fused(self, query: Query, rankings: Sequence[Ranking]) -> Ranking:
        documents: dict[str, Document] = {}
        for ranking in rankings:
            for document in ranking.documents:
                known = documents.setdefault(document.doc_id, document)
                if known.full_text != document.full_text:
                    raise _differ(known, document)
        if not documents:
            return Ranking(query, ())
        runs = [{query.query_id: _scores(ranking)} for ranking in rankings]
        fused = fuse(runs, self.method, weights=self.weights, k=self.k)[query.query_id]
        return Ranking(query, tuple(Candidate(documents[doc_id], score) for doc_id, score in fused.items()))


def _check_same_documents(retrievers: Sequence[Retriever]) -> None:
    """Refuse indexes of different documents, whose ids would not even meet; an index knows what it was built from."""
    known = [manifest for each in retrievers if (manifest := getattr(each, "manifest", None)) is not None]
    if len({manifest.fingerprint for manifest in known}) > 1:
        told = "; ".join(f"{each.kind} {each.documents:,} of {each.source or 'no name'}" for each in known)
        raise InputError(f"the retrievers search different documents: {told}; give indexes of one collection")


def _scores(ranking: Ranking) -> dict[str, float]:
    """Scores, or where a retriever gives none what stands for its order."""
    count = len(ranking)
    return {
        candidate.document.doc_id: float(count - index) if candidate.score is None else candidate.score
        for index, candidate in enumerate(ranking)
    }


def _differ(one: Document, other: Document) -> InputError:
    texts = f"{one.full_text[:40]!r} and {other.full_text[:40]!r}"
    return InputError(
        f"two retrievers call different documents {one.doc_id!r}: {texts}; give retrievers over the same collection"
    )
