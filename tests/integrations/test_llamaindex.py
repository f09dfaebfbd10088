"""The LlamaIndex postprocessor with llama-index-core's own nodes and query engine."""

from __future__ import annotations

import asyncio

import pytest
from cities import BEST, QUERY, TEXTS

pytest.importorskip("llama_index.core", reason="needs llama-index-core: pip install 'rerank-toolkit[llamaindex]'")

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from rerank.errors import InputError
from rerank.integrations.llamaindex import RerankPostprocessor


@pytest.fixture
def nodes():
    return [NodeWithScore(node=TextNode(text=text, id_=f"n{i}"), score=0.5 - i / 10) for i, text in enumerate(TEXTS)]


def test_nodes_come_back_best_first_with_scores_and_those_given_are_untouched(reranker, nodes, expected):
    postprocessor = RerankPostprocessor(reranker)

    found = postprocessor.postprocess_nodes(nodes, query_str=QUERY)

    assert isinstance(postprocessor, BaseNodePostprocessor)
    assert [node.node_id for node in found] == [f"n{index}" for index in BEST]
    assert [node.score for node in found] == [expected[index] for index in BEST]
    assert [node.score for node in nodes] == [0.5, 0.4, 0.3]
    assert RerankPostprocessor.class_name() == "RerankPostprocessor"


def test_the_best_are_kept_and_the_retrievers_score_where_it_is_wanted(reranker, nodes):
    found = RerankPostprocessor(reranker, top_n=1, keep_retrieval_score=True).postprocess_nodes(
        nodes, query_bundle=QueryBundle(QUERY)
    )

    assert [(node.node_id, node.node.metadata) for node in found] == [("n1", {"retrieval_score": 0.4})]
    assert all(node.node.metadata == {} for node in nodes)


def test_metadata_is_read_as_an_embedding_model_reads_it(reranker, nodes):
    shown, hidden = (
        NodeWithScore(
            node=TextNode(
                text="It has 3.5 million.",
                id_=name,
                metadata={"title": "People who live in Berlin"},
                excluded_embed_metadata_keys=excluded,
            )
        )
        for name, excluded in (("shown", []), ("hidden", ["title"]))
    )

    found = RerankPostprocessor(reranker).postprocess_nodes([hidden, shown], query_str=QUERY)

    assert found[0].node_id == "shown"
    assert found[0].score > found[1].score


def test_it_is_awaited_too_and_gives_an_order_where_there_are_no_scores(ordering, nodes):
    found = asyncio.run(RerankPostprocessor(ordering).apostprocess_nodes(nodes, query_str=QUERY))

    assert [(node.node_id, node.score) for node in found] == [(f"n{index}", None) for index in BEST]


def test_callbacks_are_told(reranker, nodes):
    from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler

    told = LlamaDebugHandler(print_trace_on_end=False)
    postprocessor = RerankPostprocessor(reranker, callback_manager=CallbackManager([told]))

    postprocessor.postprocess_nodes(nodes, query_str=QUERY)

    assert len(told.get_event_pairs(CBEventType.RERANKING)) == 1


def test_bad_input_is_one_line(reranker, nodes):
    assert RerankPostprocessor(reranker).postprocess_nodes([], query_str=QUERY) == []
    with pytest.raises(InputError, match="give query_str= or query_bundle="):
        RerankPostprocessor(reranker).postprocess_nodes(nodes)
    with pytest.raises(ValueError, match="top_n=0"):
        RerankPostprocessor(reranker, top_n=0)


def test_it_stands_in_a_query_engine(reranker):
    from llama_index.core import Settings, VectorStoreIndex
    from llama_index.core.embeddings import MockEmbedding
    from llama_index.core.llms import MockLLM

    before = Settings._llm, Settings._embed_model
    try:
        Settings.llm, Settings.embed_model = MockLLM(), MockEmbedding(embed_dim=4)
        index = VectorStoreIndex([TextNode(text=text, id_=f"n{number}") for number, text in enumerate(TEXTS)])
        engine = index.as_query_engine(similarity_top_k=3, node_postprocessors=[RerankPostprocessor(reranker, top_n=2)])

        answer = engine.query(QUERY)
    finally:
        Settings._llm, Settings._embed_model = before

    assert [node.node_id for node in answer.source_nodes] == ["n1", "n2"]
