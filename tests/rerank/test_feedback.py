"""Relevance feedback: similarities and fused ranks by hand."""

from __future__ import annotations

import math

import pytest

from rerank import Dataset
from rerank.errors import InputError
from rerank.judges.bi_encoder import BiEncoder
from rerank.pipeline import Pipeline
from rerank.rerankers.feedback import Feedback, residual
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


def test_without_anybody_the_best_stand_in():
    """With the two best, a (1, 0) and b (0, 1), for relevant: a 1 + 1 + 0, b 0 + 0 + 1, c 3 · √½, d 0: c, a, b, d."""
    judged = {"q": [Document("r", "good")]}

    [alone] = Feedback(vectors, pseudo=2, k=1).rerank([ranking()])
    [with_reader] = Feedback(vectors, judged, pseudo=2, k=1).rerank([ranking()])

    assert [(one.document.doc_id, one.score) for one in alone] == [
        ("a", pytest.approx(5 / 6)), ("c", pytest.approx(3 / 4)),
        ("b", pytest.approx(7 / 12)), ("d", pytest.approx(2 / 5)),
    ]  # fmt: skip
    assert with_reader == Feedback(vectors, judged, k=1).rerank([ranking()])[0]


def test_what_was_given_away_is_neither_ranked_nor_judged():
    relevant = {"q": [Document("a", "a"), Document("x", "good")]}

    [found] = Feedback(vectors, relevant, drop=True).rerank([ranking()])
    left = residual({"q": {"a": 2, "b": 1}, "other": {"a": 1}}, relevant)

    assert {one.document.doc_id for one in found} == {"b", "c", "d"}
    assert left == {"q": {"b": 1}, "other": {"a": 1}}


def test_a_pipelines_file_names_a_model_and_a_file(sentences, tmp_path):
    dataset = Dataset.load("noveleval")
    query = dataset.queries[0]
    judged = [doc_id for doc_id, value in dataset.qrels[query.query_id].items() if value > 0][:1]
    (tmp_path / "some.qrels").write_text(f"{query.query_id} 0 {judged[0]} 1\n")
    documents = [document for document in dataset.documents() if document.doc_id in dataset.qrels[query.query_id]]
    given = Ranking.unscored(query, documents)
    stage = f'[[stage]]\nstep = "feedback"\nmodel = "{sentences}"\n'
    (tmp_path / "file.toml").write_text(f'{stage}relevant = "{tmp_path / "some.qrels"}"\ndrop = true\n')
    (tmp_path / "pseudo.toml").write_text(f"{stage}pseudo = 3\n")
    (tmp_path / "none.toml").write_text(stage)

    [found] = Pipeline.load(tmp_path / "file.toml", dataset).rerank([given])
    [pseudo] = Pipeline.load(tmp_path / "pseudo.toml").rerank([given])

    expected = Feedback(BiEncoder(sentences).vectors, {query.query_id: [dataset.look_up(judged)[judged[0]]]}, drop=True)
    assert found == expected.rerank([given])[0]
    assert len(found) == len(given) - 1
    assert pseudo == Feedback(BiEncoder(sentences).vectors, pseudo=3).rerank([given])[0]
    with pytest.raises(InputError, match="feedback needs documents"):
        Pipeline.load(tmp_path / "none.toml")
    with pytest.raises(InputError, match="the texts of feedback documents are in a dataset"):
        Pipeline.load(tmp_path / "file.toml")
