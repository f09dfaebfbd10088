"""LangChain: a reranker as a document compressor, for `ContextualCompressionRetriever` and by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank.integrations.texts import best_first, check_count, reranker_of
from rerank.registry import extra_for

try:
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from pydantic import ConfigDict, field_validator
except ModuleNotFoundError as error:
    raise extra_for("the adapter for LangChain", "langchain_core") from error

__all__ = ["RerankCompressor"]


class RerankCompressor(BaseDocumentCompressor):  # type: ignore[misc]
    """Puts retrieved documents in a better order and keeps the best.

    `compress_documents(documents, query)` and, without blocking the event loop, `acompress_documents` give new
    documents with the score in `metadata["relevance_score"]`; the documents given are not changed. Calls from several
    threads or tasks share batches.

    Args:
        reranker: a `Reranker`, a `RemoteReranker`, a pipeline of rerankers, or a name that makes one.
        top_n: keep the best so many; None keeps all.
        score_threshold: keep only documents of at least this score, on the reranker's own scale; give the reranker a
            calibration for one of probabilities. Documents that have no score are not kept then.

    A method that measures an order alone (RankGPT and kin) leaves `relevance_score` out. Callbacks are taken, as the
    interface wants, and are of no use: rerankers report nothing in between.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    reranker: Any
    top_n: int | None = None
    score_threshold: float | None = None

    @field_validator("reranker")
    @classmethod
    def _made(cls, value: object) -> object:
        return reranker_of(value)

    @field_validator("top_n")
    @classmethod
    def _counted(cls, value: int | None) -> int | None:
        check_count("top_n", value)
        return value

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The best of these documents, best first."""
        found = best_first(self.reranker, query, [document.page_content for document in documents], top=self.top_n)
        least = self.score_threshold
        return [
            _scored(documents[index], score)
            for index, score in found
            if least is None or (score is not None and score >= least)
        ]


def _scored(document: Document, score: float | None) -> Document:
    """A copy with its score, and without the one of another reranker."""
    metadata = {name: value for name, value in document.metadata.items() if name != "relevance_score"}
    if score is not None:
        metadata["relevance_score"] = score
    return document.model_copy(update={"metadata": metadata})
