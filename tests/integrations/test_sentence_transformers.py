"""The CrossEncoder in the shape of sentence-transformers, against the real one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from cities import BEST, QUERY, TEXTS
from small_folders import bert

from rerank.errors import InputError
from rerank.integrations.sentence_transformers import CrossEncoder

PAIRS = [(QUERY, text) for text in TEXTS] + [("museums", text) for text in TEXTS]


@pytest.fixture(scope="module")
def ours(reranker):
    return CrossEncoder(reranker)


@pytest.fixture(scope="module")
def theirs(minilm):
    peer = pytest.importorskip("sentence_transformers", reason="compares with sentence-transformers")
    return peer.CrossEncoder(str(minilm), device="cpu")


def test_predictions_are_those_of_sentence_transformers(ours, theirs):
    found = ours.predict(PAIRS)

    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    assert type(ours.activation_fn) is type(theirs.activation_fn)
    np.testing.assert_allclose(found, theirs.predict(PAIRS), atol=1e-4)
    np.testing.assert_allclose(
        ours.predict(PAIRS, activation_fn=torch.nn.Sigmoid()),
        theirs.predict(PAIRS, activation_fn=torch.nn.Sigmoid()),
        atol=1e-4,
    )


def test_rankings_are_those_of_sentence_transformers(ours, theirs):
    found = ours.rank(QUERY, TEXTS, return_documents=True)
    wanted = theirs.rank(QUERY, list(TEXTS), return_documents=True)

    assert [entry["corpus_id"] for entry in found] == list(BEST) == [entry["corpus_id"] for entry in wanted]
    assert [entry["text"] for entry in found] == [entry["text"] for entry in wanted]
    assert [entry["score"] for entry in found] == pytest.approx([entry["score"] for entry in wanted], abs=1e-4)
    assert type(found[0]["score"]) is float
    assert ours.rank(QUERY, TEXTS, top_k=1) == [{"corpus_id": 1, "score": found[0]["score"]}]


def test_shapes_are_as_asked_and_parts_change_nothing(ours):
    whole = ours.predict(PAIRS)

    assert ours.predict(PAIRS[1]) == whole[1]
    assert torch.equal(ours.predict(PAIRS, convert_to_tensor=True), torch.from_numpy(whole))
    listed = ours.predict(PAIRS, convert_to_numpy=False)
    assert isinstance(listed, list)
    assert listed[2] == whole[2]
    assert len(ours.predict([])) == 0
    np.testing.assert_array_equal(ours.predict(PAIRS, batch_size=2), whole)


def test_its_evaluator_takes_ours_for_its_own(ours, theirs):
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

    samples = [{"query": QUERY, "positive": [TEXTS[1]], "negative": [TEXTS[0], TEXTS[2]]}]
    evaluator = CrossEncoderRerankingEvaluator(samples, show_progress_bar=False, write_csv=False)

    found = evaluator(ours)

    assert found == evaluator(theirs)
    assert list(ours.model_card_data.metrics.values()) == [found]


def test_the_activation_is_what_the_config_says(tmp_path):
    folder = bert(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())

    def written(**fields):
        (folder / "config.json").write_text(json.dumps(config | fields))
        return type(CrossEncoder(folder, device="cpu").activation_fn).__name__

    assert written(sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"}) == "Identity"
    assert written(sbert_ce_default_activation_function="torch.nn.modules.activation.Sigmoid") == "Sigmoid"
    assert written() == "Sigmoid"
    with pytest.raises(InputError, match=r"activation is torch\.nn\.Softplus"):
        written(sentence_transformers={"activation_fn": "torch.nn.Softplus"})


def test_what_gives_no_scores_ranks_and_predicts_nothing(ordering):
    listwise = CrossEncoder(ordering)

    assert listwise.rank(QUERY, TEXTS) == [{"corpus_id": index} for index in BEST]
    with pytest.raises(InputError, match="measures an order"):
        listwise.predict(PAIRS[:3])


@pytest.mark.parametrize("inputs", [["a", "b", "c"], [("a", 3)], [("a", "b", "c")], ["ab"]])
def test_what_is_no_pair_is_refused(ours, inputs):
    with pytest.raises(InputError, match="is no pair"):
        ours.predict(inputs)


def test_options_for_what_is_made_already_are_refused(reranker):
    with pytest.raises(InputError, match="max_tokens cannot change a reranker"):
        CrossEncoder(reranker, max_length=10)
