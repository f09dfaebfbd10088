"""The Haystack component in Haystack's own pipelines."""

from __future__ import annotations

import asyncio
import json
import math

import pytest
from cities import BEST, QUERY, TEXTS

pytest.importorskip("haystack", reason="needs haystack-ai: pip install 'rerank-toolkit[haystack]'")

from haystack import Document, Pipeline

from rerank.errors import InputError
from rerank.integrations.haystack import RerankRanker


@pytest.fixture(scope="module")
def documents():
    return [Document(id=f"d{index}", content=text, score=0.1, meta={"n": index}) for index, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def ranker(minilm):
    made = RerankRanker(str(minilm), options={"device": "cpu"})
    made.warm_up()
    return made


def test_documents_come_back_best_first_with_scores_and_those_given_are_untouched(ranker, documents, expected):
    found = ranker.run(query=QUERY, documents=documents)["documents"]

    assert [document.id for document in found] == [f"d{index}" for index in BEST]
    assert [document.score for document in found] == [expected[index] for index in BEST]
    assert [document.meta for document in found] == [{"n": index} for index in BEST]
    assert {document.score for document in documents} == {0.1}
    json.dumps([document.to_dict() for document in found])  # no scalar of numpy


def test_options_of_a_run_stand_above_those_of_the_component_zero_and_false_too(ranker, documents, expected):
    ranker_that_scales = RerankRanker(ranker.model, scale_score=True, score_threshold=0.9)
    ranker_that_scales._reranker = ranker._reranker

    scaled = ranker_that_scales.run(query=QUERY, documents=documents)["documents"]
    all_scaled = ranker_that_scales.run(query=QUERY, documents=documents, score_threshold=0.0)["documents"]
    raw = ranker_that_scales.run(query=QUERY, documents=documents, score_threshold=0.0, scale_score=False)["documents"]

    assert [document.score for document in scaled] == [pytest.approx(1 / (1 + math.exp(-expected[1])))]
    assert len(all_scaled) == 3
    assert [document.score for document in raw] == [score for score in sorted(expected, reverse=True) if score >= 0]
    assert len(ranker.run(query=QUERY, documents=documents, top_k=1)["documents"]) == 1


def test_a_document_that_comes_twice_is_ranked_once_in_its_better_version(ranker, documents):
    twice = [documents[0], Document(id="d1", content="a fruit", score=0.05), *documents[1:]]

    found = ranker.run(query=QUERY, documents=twice)["documents"]

    assert [(document.id, document.content) for document in found] == [(f"d{index}", TEXTS[index]) for index in BEST]


def test_meta_is_read_where_it_is_wanted(minilm, ranker):
    reading = RerankRanker(str(minilm), meta_fields_to_embed=["title"])
    reading._reranker = ranker._reranker
    texts = [
        Document(id="plain", content="It has 3.5 million."),
        Document(id="told", content="It has 3.5 million.", meta={"title": "People who live in Berlin"}),
    ]

    assert [document.id for document in reading.run(query=QUERY, documents=texts)["documents"]] == ["told", "plain"]


def test_it_stands_in_a_pipeline_that_is_written_and_read(ranker, documents):
    pipeline = Pipeline()
    pipeline.add_component("ranker", RerankRanker(ranker.model, top_k=2, options={"max_tokens": 64, "device": "cpu"}))

    read = Pipeline.loads(pipeline.dumps(), allowed_modules=[RerankRanker.__module__])
    found = read.run({"ranker": {"query": QUERY, "documents": documents}})["ranker"]["documents"]

    assert [document.id for document in found] == ["d1", "d2"]
    assert read.get_component("ranker").options == {"max_tokens": 64, "device": "cpu"}


def test_it_is_awaited_too(ranker, documents):
    found = asyncio.run(ranker.run_async(query=QUERY, documents=documents, top_k=1))

    assert [document.id for document in found["documents"]] == ["d1"]


def test_bad_input_is_one_line(ranker):
    assert ranker.run(query=QUERY, documents=[]) == {"documents": []}
    with pytest.raises(InputError, match="top_k=0"):
        RerankRanker("x", top_k=0)
    with pytest.raises(InputError, match="document 'd9' has no text content"):
        ranker.run(query=QUERY, documents=[Document(id="d9")])
