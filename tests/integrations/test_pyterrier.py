"""The PyTerrier transformer in PyTerrier's own algebra; no Java is started."""

from __future__ import annotations

import pytest
from cities import BEST, QUERY, TEXTS

pytest.importorskip("pyterrier", reason="needs python-terrier: pip install 'rerank-toolkit[pyterrier]'")

import pandas as pd
import pyterrier as pt

from rerank.errors import InputError
from rerank.integrations.pyterrier import RerankTransformer

OTHER = "which city has the Metropolitan Museum of Art?"


@pytest.fixture
def frame():
    rows = [
        {
            "qid": qid,
            "query": query,
            "docno": f"d{index}",
            "text": text,
            "score": 9.0 - index,
            "rank": index,
            "more": qid,
        }
        for qid, query in (("q1", QUERY), ("q2", OTHER))
        for index, text in enumerate(TEXTS)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def first_stage(frame):
    return pt.Transformer.from_df(frame, uniform=True)


def test_rows_come_back_best_first_with_scores_ranks_and_other_columns(reranker, frame, expected):
    before = frame.copy()

    found = RerankTransformer(reranker)(frame)

    first = found[found.qid == "q1"]
    assert list(first.docno) == [f"d{index}" for index in BEST]
    assert list(first.score) == [expected[index] for index in BEST]
    assert list(first["rank"]) == [0, 1, 2]
    assert found[found.qid == "q2"].docno.iloc[0] == "d0"
    assert set(found.columns) == set(frame.columns)
    assert list(found.more) == list(found.qid)
    pd.testing.assert_frame_equal(frame, before)


def test_it_composes(reranker, first_stage, frame, expected):
    rerank = RerankTransformer(reranker)
    queries = frame[["qid", "query"]].drop_duplicates()

    shortened = (first_stage >> rerank % 2)(queries)
    added = (first_stage >> (rerank + rerank))(queries)
    united = (first_stage >> (rerank | rerank))(queries)

    assert list(shortened[shortened.qid == "q1"].docno) == ["d1", "d2"]
    assert added[added.docno == "d1"].score.iloc[0] == pytest.approx(2 * expected[1])
    assert len(united) == 6


def test_it_can_be_inspected_and_answers_an_empty_frame(reranker, frame):
    rerank = RerankTransformer(reranker)

    assert set(pt.inspect.transformer_outputs(rerank, ["qid", "query", "docno", "text", "score"])) == {
        "qid",
        "query",
        "docno",
        "text",
        "score",
        "rank",
    }
    assert set(rerank(frame.iloc[:0]).columns) == set(frame.columns)
    with pytest.raises(pt.validate.InputValidationError):
        rerank(frame.drop(columns=["text"]))


def test_a_head_is_reranked_and_the_rest_stays_below(reranker, frame):
    shuffled = frame.sample(frac=1, random_state=3)

    found = RerankTransformer(reranker, cutoff=2)(shuffled)

    assert list(found[found.qid == "q1"].docno) == ["d1", "d0", "d2"]
    assert list(found[found.qid == "q1"]["rank"]) == [0, 1, 2]


def test_a_method_without_scores_gives_numbers_that_sort(ordering, frame):
    found = RerankTransformer(ordering)(frame[frame.qid == "q1"])

    assert [(row.docno, row.score) for row in found.itertuples()] == [("d1", 3.0), ("d2", 2.0), ("d0", 1.0)]


def test_records_and_another_column_of_texts_do_too(reranker, frame):
    records = frame.rename(columns={"text": "body"}).to_dict("records")

    found = RerankTransformer(reranker, text_field="body")(records)

    assert found[0]["docno"] == "d1"


def test_bad_input_is_one_line(reranker, frame):
    frame.loc[1, "text"] = None
    with pytest.raises(InputError, match="document 'd1' has the text"):
        RerankTransformer(reranker)(frame)
    with pytest.raises(InputError, match="cutoff=0"):
        RerankTransformer(reranker, cutoff=0)
