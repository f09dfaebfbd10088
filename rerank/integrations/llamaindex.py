"""LlamaIndex: a reranker as a node postprocessor, for query engines and by itself."""

from __future__ import annotations

from typing import Any

from rerank.errors import InputError
from rerank.integrations.texts import best_first, check_count, reranker_of
from rerank.registry import extra_for

try:
    from llama_index.core.callbacks import CBEventType, EventPayload
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
    from pydantic import Field, PrivateAttr, field_validator
except ModuleNotFoundError as error:
    raise extra_for("the adapter for LlamaIndex", "llama_index") from error

__all__ = ["RerankPostprocessor"]


class RerankPostprocessor(BaseNodePostprocessor):  # type: ignore[misc]
    """Puts retrieved nodes in a better order and keeps the best.

    `postprocess_nodes(nodes, query_str=…)` and `apostprocess_nodes` give new `NodeWithScore`s, whose score is the
    reranker's, or None where the method measures an order alone; what was given is not changed. Each node is read as
    an embedding model would read it (`MetadataMode.EMBED`: its metadata in front, unless excluded).

    Args:
        reranker: a `Reranker`, a `RemoteReranker`, a pipeline of rerankers, or a name that makes one.
        top_n: keep the best so many; None keeps all.
        keep_retrieval_score: put the score that a node came with into its metadata, as `retrieval_score`.

    Raises:
        InputError: when it is asked without a query.
    """

    top_n: int | None = Field(default=None, description="Number of nodes to keep; None keeps all.")
    keep_retrieval_score: bool = Field(default=False, description="Whether to keep the retriever's score as metadata.")
    _reranker: Any = PrivateAttr()

    def __init__(self, reranker: object, **options: Any) -> None:
        super().__init__(**options)
        self._reranker = reranker_of(reranker)

    @field_validator("top_n")
    @classmethod
    def _counted(cls, value: int | None) -> int | None:
        check_count("top_n", value)
        return value

    @classmethod
    def class_name(cls) -> str:
        """As LlamaIndex names components in what it writes."""
        return "RerankPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise InputError("nodes are reranked for a query; give query_str= or query_bundle=")
        told = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: str(getattr(self._reranker, "name", type(self._reranker).__name__)),
            EventPayload.QUERY_STR: query_bundle.query_str,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=told) as event:
            texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
            found = best_first(self._reranker, query_bundle.query_str, texts, top=self.top_n)
            ranked = [self._scored(nodes[index], score) for index, score in found]
            event.on_end(payload={EventPayload.NODES: ranked})
        return ranked

    def _scored(self, given: NodeWithScore, score: float | None) -> NodeWithScore:
        node = given.node
        if self.keep_retrieval_score:
            node = node.model_copy(update={"metadata": {**node.metadata, "retrieval_score": given.score}})
        return NodeWithScore(node=node, score=score)
