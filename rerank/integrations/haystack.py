"""Haystack 2: a reranker as a component of pipelines."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

from rerank.errors import InputError
from rerank.integrations.texts import best_first, check_count, reranker_of
from rerank.pipeline import Reranks
from rerank.registry import extra_for

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ModuleNotFoundError as error:
    raise extra_for("the component for Haystack", "haystack") from error

__all__ = ["RerankRanker"]


@component
class RerankRanker:
    """Puts documents in a better order and keeps the best.

    Documents that share an id are ranked once, in the version of the highest score. The documents given are not
    changed; scores are Python floats, or None where the method measures an order alone.

    Args:
        model: the name of a checkpoint, a method or a server, as `Reranker` takes it. It is loaded by `warm_up`.
        top_k: the most documents to give back; None gives all.
        score_threshold: give only documents of at least this score, after scaling.
        scale_score: scores through a sigmoid, so that they lie between 0 and 1.
        meta_fields_to_embed: fields of a document's meta that are read in front of its content.
        embedding_separator: between them.
        options: further arguments of `Reranker`, such as {"max_tokens": 256}.

    Raises:
        InputError: when a number makes no sense.
    """

    def __init__(
        self,
        model: str,
        *,
        top_k: int | None = 10,
        score_threshold: float | None = None,
        scale_score: bool = False,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        options: dict[str, Any] | None = None,
    ) -> None:
        check_count("top_k", top_k)
        self.model, self.top_k, self.score_threshold, self.scale_score = model, top_k, score_threshold, scale_score
        self.meta_fields_to_embed = list(meta_fields_to_embed or [])
        self.embedding_separator, self.options = embedding_separator, dict(options or {})
        self._reranker: Reranks | None = None

    def warm_up(self) -> None:
        """Load the model, once."""
        if self._reranker is None:
            self._reranker = reranker_of(self.model, **self.options)

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        scale_score: bool | None = None,
    ) -> dict[str, list[Document]]:
        """The best of these documents, best first; what is not said is as of the component.

        Args:
            query: what they are ranked for.
            documents: with text content.
            top_k, score_threshold, scale_score: of this run alone; 0.0 and False count as said.
        """
        check_count("top_k", top_k)
        self.warm_up()
        assert self._reranker is not None
        most, least, scaled = _said(top_k, self.top_k), _said(score_threshold, self.score_threshold), scale_score
        scaled = _said(scaled, self.scale_score)
        distinct = _distinct(documents)
        found = best_first(self._reranker, query, [self._text(document) for document in distinct], top=most)
        scores = [(distinct[index], _sigmoid(score) if scaled else score) for index, score in found]
        kept = [pair for pair in scores if least is None or (pair[1] is not None and pair[1] >= least)]
        return {"documents": [replace(document, score=score) for document, score in kept]}

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        scale_score: bool | None = None,
    ) -> dict[str, list[Document]]:
        """The same without blocking the event loop."""
        found: dict[str, list[Document]] = await asyncio.to_thread(
            self.run, query, documents, top_k, score_threshold, scale_score
        )
        return found

    def to_dict(self) -> dict[str, Any]:
        """For a pipeline's YAML."""
        said: dict[str, Any] = default_to_dict(
            self,
            model=self.model,
            top_k=self.top_k,
            score_threshold=self.score_threshold,
            scale_score=self.scale_score,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            options=self.options,
        )
        return said

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RerankRanker:
        """Out of a pipeline's YAML."""
        made: RerankRanker = default_from_dict(cls, data)
        return made

    def _text(self, document: Document) -> str:
        if document.content is None:
            raise InputError(f"document {document.id!r} has no text content; leave it out")
        fields = [str(document.meta[name]) for name in self.meta_fields_to_embed if document.meta.get(name) is not None]
        return self.embedding_separator.join([*fields, document.content])


def _said(value: Any, usual: Any) -> Any:
    """0.0 and False are values too."""
    return usual if value is None else value


def _sigmoid(score: float | None) -> float | None:
    if score is None:
        return None
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


def _distinct(documents: list[Document]) -> list[Document]:
    """One of each id, where it first stood: the one of the highest score."""
    found: dict[str, Document] = {}
    for document in documents:
        before = found.get(document.id)
        if before is None or _known(document.score) > _known(before.score):
            found[document.id] = document
    return list(found.values())


def _known(score: float | None) -> float:
    return -math.inf if score is None else score
