"""Every framework with a reranker that our own server runs: the same documents in the same order as in this process."""

from __future__ import annotations

import math
from importlib.util import find_spec

import pytest
from cities import BEST, QUERY, TEXTS

pytest.importorskip("fastapi", reason="the server needs the 'serve' extra")

from live_server import live

from rerank import RemoteReranker, Reranker


@pytest.fixture(scope="module")
def address(minilm):
    with live(Reranker(minilm, device="cpu"), names=("ms-marco-MiniLM-L12-v2",)) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture
def remote(address):
    with RemoteReranker(address) as reranker:
        yield reranker


def installed(package):
    return pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}")


@pytest.fixture
def probabilities(expected):
    return [1 / (1 + math.exp(-expected[index])) for index in BEST]


@installed("langchain_core")
def test_langchain(remote, probabilities):
    from langchain_core.documents import Document

    from rerank.integrations.langchain import RerankCompressor

    documents = [Document(page_content=text) for text in TEXTS]
    found = RerankCompressor(reranker=remote).compress_documents(documents, QUERY)

    assert [document.page_content for document in found] == [TEXTS[index] for index in BEST]
    assert [document.metadata["relevance_score"] for document in found] == probabilities


@installed("llama_index")
def test_llamaindex(remote, probabilities):
    from llama_index.core.schema import NodeWithScore, TextNode

    from rerank.integrations.llamaindex import RerankPostprocessor

    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    found = RerankPostprocessor(remote).postprocess_nodes(nodes, query_str=QUERY)

    assert [(node.text, node.score) for node in found] == [
        (TEXTS[index], score) for index, score in zip(BEST, probabilities, strict=True)
    ]


@installed("haystack")
def test_haystack(address, probabilities):
    from haystack import Document

    from rerank.integrations.haystack import RerankRanker

    ranker = RerankRanker(f"{address}/v1/rerank")
    found = ranker.run(query=QUERY, documents=[Document(content=text) for text in TEXTS])["documents"]

    assert [document.content for document in found] == [TEXTS[index] for index in BEST]
    assert [document.score for document in found] == probabilities


@installed("pyterrier")
def test_pyterrier(remote, probabilities):
    import pandas as pd

    from rerank.integrations.pyterrier import RerankTransformer

    rows = [{"qid": "q", "query": QUERY, "docno": str(index), "text": text} for index, text in enumerate(TEXTS)]
    found = RerankTransformer(remote)(pd.DataFrame(rows))

    assert [int(docno) for docno in found.docno] == list(BEST)
    assert list(found.score) == probabilities


def test_sentence_transformers(remote, probabilities):
    from rerank.integrations.sentence_transformers import CrossEncoder

    found = CrossEncoder(remote).rank(QUERY, TEXTS)

    assert [entry["corpus_id"] for entry in found] == list(BEST)
    assert [entry["score"] for entry in found] == pytest.approx(probabilities, abs=1e-7)
