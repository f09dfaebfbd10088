"""The LangChain compressor with langchain-core's own documents and runnables."""

from __future__ import annotations

import asyncio

import pytest
from cities import BEST, QUERY, TEXTS

pytest.importorskip("langchain_core", reason="needs langchain-core: pip install 'rerank-toolkit[langchain]'")

from langchain_core.documents import BaseDocumentCompressor, Document

from rerank.errors import InputError
from rerank.integrations.langchain import RerankCompressor


@pytest.fixture
def documents():
    return [
        Document(page_content=text, metadata={"source": index}, id=f"id{index}") for index, text in enumerate(TEXTS)
    ]


def test_documents_come_back_best_first_with_scores_and_their_own_are_untouched(reranker, documents, expected):
    compressor = RerankCompressor(reranker=reranker)

    found = compressor.compress_documents(documents, QUERY)

    assert isinstance(compressor, BaseDocumentCompressor)
    assert [document.id for document in found] == [f"id{index}" for index in BEST]
    assert [document.metadata for document in found] == [
        {"source": index, "relevance_score": expected[index]} for index in BEST
    ]
    assert all(type(document.metadata["relevance_score"]) is float for document in found)
    assert all("relevance_score" not in document.metadata for document in documents)


def test_the_best_are_kept_by_number_and_by_score(reranker, documents, expected):
    assert len(RerankCompressor(reranker=reranker, top_n=2).compress_documents(documents, QUERY)) == 2
    least = RerankCompressor(reranker=reranker, score_threshold=expected[2])
    assert [document.id for document in least.compress_documents(documents, QUERY)] == ["id1", "id2"]
    assert RerankCompressor(reranker=reranker, score_threshold=0.0).compress_documents(documents, QUERY)[:1]
    assert len(RerankCompressor(reranker=reranker, score_threshold=1000).compress_documents(documents, QUERY)) == 0


def test_tasks_side_by_side_get_their_own_answers(reranker, documents):
    compressor = RerankCompressor(reranker=reranker)
    queries = [QUERY, "which city has the Metropolitan Museum of Art?"] * 4

    async def ask():
        return await asyncio.gather(*(compressor.acompress_documents(documents, query) for query in queries))

    found = asyncio.run(ask())

    assert [answer[0].id for answer in found] == ["id1", "id0"] * 4
    assert list(found[0]) == list(compressor.compress_documents(documents, QUERY))


def test_a_method_without_scores_gives_an_order(ordering, documents):
    documents[0].metadata["relevance_score"] = 0.9  # of a retriever; it is not ours

    found = RerankCompressor(reranker=ordering).compress_documents(documents, QUERY)

    assert [document.id for document in found] == [f"id{index}" for index in BEST]
    assert all("relevance_score" not in document.metadata for document in found)


def test_nothing_is_asked_about_nothing_and_bad_input_is_one_line(reranker):
    assert list(RerankCompressor(reranker=reranker).compress_documents([], QUERY)) == []
    with pytest.raises(ValueError, match="top_n=0; it is a whole number of at least 1"):
        RerankCompressor(reranker=reranker, top_n=0)
    with pytest.raises(ValueError, match="is no reranker"):
        RerankCompressor(reranker=3)
    with pytest.raises(InputError, match="has no text"):
        RerankCompressor(reranker=reranker).compress_documents([Document(page_content="a")], " ")


def test_it_compresses_in_a_chain_behind_a_retriever(reranker, documents):
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import RunnableLambda

    class All(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            return documents

    compressor = RerankCompressor(reranker=reranker, top_n=1)
    chain = RunnableLambda(lambda query: compressor.compress_documents(All().invoke(query), query))

    assert chain.invoke(QUERY)[0].id == "id1"
