"""Relevance feedback: similarities and fused ranks by hand."""

from __future__ import annotations

import math

import pytest

from rerank.errors import InputError
from rerank.rerankers.feedback import Feedback
from rerank.types import Document, Query, Ranking

VECTORS = {"query": (1, 0), "good": (0, 2), "a": (1, 0), "b": (0, 1), "c": (3, 3), "d": (0, 0)}


def vectors(texts):
    return [VECTORS[text] for text in texts]


def ranking(ids="abcd"):
    return Ranking.unscored(Query("q", "query"), [Document(one, one) for one in ids])


def test_feedback_by_hand():
    """Cosines with the query and the relevant document: a 1 + 0, b 0 + 1, c √½ + √½, d 0; so c, a, b, d.
    Reciprocal ranks with k = 1: a 1/2 + 1/3, b 1/3 + 1/4, c 1/4 + 1/2, d 1/5 + 1/5."""
    [found] = Feedback(vectors, {"q": [Document("r", "good")]}, k=1).rerank([ranking()])

    assert [(one.document.doc_id, one.score) for one in found] == [
        ("a", pytest.approx(5 / 6)), ("c", pytest.approx(3 / 4)),
        ("b", pytest.approx(7 / 12)), ("d", pytest.approx(2 / 5)),
    ]  # fmt: skip


def test_the_nearest_may_count_alone():
    """Greatest cosines: a 1, b 1, c √½, d 0."""
    [found] = Feedback(vectors, {"q": [Document("r", "good")]}, pool="max", k=0).rerank([ranking("cbad")])

    assert [one.document.doc_id for one in found] == ["b", "c", "a", "d"]
    assert math.isclose(found[0].score or 0, 1 / 2 + 1)


def test_without_feedback_the_query_stands_alone_and_empty_rankings_pass():
    [found, empty] = Feedback(vectors, {}).rerank([ranking("ba"), Ranking(Query("e", "query"), ())])

    assert [one.document.doc_id for one in found] == ["b", "a"]  # a tie of ranks 1 and 2: the incoming order
    assert len(empty) == 0


def test_each_text_is_turned_into_a_vector_once():
    seen = []

    def counting(texts):
        seen.extend(texts)
        return vectors(texts)

    Feedback(counting, {"q": [Document("r", "a")]}).rerank([ranking(), ranking()])

    assert sorted(seen) == ["a", "b", "c", "d", "query"]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="pool='mean'"):
        Feedback(vectors, {}, pool="mean")
    with pytest.raises(InputError, match="5 texts gave vectors of shape"):
        Feedback(lambda texts: [[1.0, 0.0]], {}).rerank([ranking()])
