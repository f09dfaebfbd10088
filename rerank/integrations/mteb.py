"""mteb: rerankers on its reranking tasks, pair by pair or, as listwise methods must be asked, list by list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rerank.errors import InputError
from rerank.integrations.sentence_transformers import CrossEncoder
from rerank.io.float32 import strictly_falling
from rerank.registry import extra_for
from rerank.rerankers.reranker import Reranker
from rerank.types import Document, Query, Ranking

try:
    from mteb.models.model_meta import ModelMeta
except ModuleNotFoundError as error:
    raise extra_for("the adapter for mteb", "mteb") from error

__all__ = ["MtebPairs", "MtebReranker"]


class _Described:
    """What mteb wants to know of a model."""

    reranker: Reranker

    def _described(self, name: str | None, revision: str | None) -> ModelMeta:
        own = self.reranker.name
        usual = own if "/" in own else f"rerank-toolkit/{own}"
        return ModelMeta.create_empty(
            {"name": name or usual, "revision": revision or self.reranker.judge.key, "framework": ["PyTorch"]}
        )


class MtebPairs(_Described):
    """`CrossEncoderProtocol`: scores pairs; for rerankers that score documents one by one.

    Args:
        model: a checkpoint's name or folder, or a `Reranker`.
        revision: as results should name it; what decides the scores (the judge's key) by default.
        device: as of `Reranker`.
        name: as results should name it, "ORGANISATION/MODEL".
        options: further arguments of `Reranker`.
    """

    def __init__(
        self,
        model: str | Reranker,
        revision: str | None = None,
        device: str | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> None:
        self._pairs = CrossEncoder(model, device=device, activation_fn=_as_measured, **options)
        self.reranker = self._pairs.reranker
        self.mteb_model_meta = self._described(name, revision)

    def predict(
        self,
        inputs1: Iterable[Mapping[str, Any]],
        inputs2: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray[Any, Any]:
        """A score for each pair of a query and a document, as measured.

        Args:
            inputs1, inputs2: batches with a list "text" of queries and of documents.
            task_metadata, hf_split, hf_subset, prompt_type, kwargs: what is evaluated and how its loaders were made;
                nothing depends on it.
        """
        pairs = list(zip(_texts(inputs1), _texts(inputs2), strict=True))
        found = self._pairs.predict(pairs)
        assert isinstance(found, np.ndarray)
        return found


class MtebReranker(_Described):
    """`SearchProtocol`: ranks each query's list as a list, so that listwise, pairwise and setwise methods are evaluated
    as what they are. Arguments as of `MtebPairs`; for mteb's reranking tasks, which say what is to be reranked.

    Where the method measures an order alone the scores fall by 1, because mteb sorts by numbers.
    """

    def __init__(
        self,
        model: str | Reranker,
        revision: str | None = None,
        device: str | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> None:
        if isinstance(model, Reranker) and (device is not None or options):
            raise InputError("a reranker that is already made takes no further options; give them to it")
        self.reranker = model if isinstance(model, Reranker) else Reranker(model, device=device, **options)
        self.mteb_model_meta = self._described(name, revision)
        self._documents: dict[str, Document] = {}

    def index(self, corpus: Iterable[Mapping[str, Any]], **about: Any) -> None:
        """Keep the texts of a task's documents.

        Args:
            corpus: rows with "id", "text" and perhaps "title".
            about: what is evaluated; nothing depends on it.
        """
        self._documents = {
            str(row["id"]): Document(str(row["id"]), str(row.get("text") or ""), str(row.get("title") or ""))
            for row in corpus
        }

    def search(
        self,
        queries: Iterable[Mapping[str, Any]],
        *,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **about: Any,
    ) -> dict[str, dict[str, float]]:
        """query id -> document id -> score, of the best `top_k`.

        Args:
            queries: rows with "id", "text" and perhaps "instruction".
            top_k: documents of each query.
            top_ranked: query id -> the documents to rerank; a query that is not there is given none.
            about: what is evaluated; nothing depends on it.

        Raises:
            InputError: when nothing says what is to be reranked.
        """
        if top_ranked is None:
            raise InputError("a reranker orders what was found; give mteb a reranking task, or a first stage's results")
        asked = [row for row in queries if top_ranked.get(row["id"])]
        ranked = self.reranker.rerank([self._ranking(row, top_ranked[row["id"]]) for row in asked])
        return {
            ranking.query.query_id: dict(
                zip(
                    [candidate.document.doc_id for candidate in ranking[:top_k]],
                    strictly_falling([candidate.score for candidate in ranking[:top_k]]),
                    strict=True,
                )
            )
            for ranking in ranked
        }

    def _ranking(self, row: Mapping[str, Any], doc_ids: Sequence[str]) -> Ranking:
        query = Query(str(row["id"]), str(row["text"]), str(row.get("instruction") or ""))
        return Ranking.unscored(query, [self._documents[doc_id] for doc_id in dict.fromkeys(doc_ids)])


def _as_measured(scores: Any) -> Any:
    return scores


def _texts(batches: Iterable[Mapping[str, Any]]) -> list[str]:
    return [text for batch in batches for text in batch["text"]]
