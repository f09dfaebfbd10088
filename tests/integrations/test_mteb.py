"""The mteb adapters in an evaluation by mteb itself."""

from __future__ import annotations

import pytest
from cities import QUERY, TEXTS

pytest.importorskip("mteb", reason="needs mteb: pip install 'rerank-toolkit[mteb]'")

import mteb
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.models_protocols import CrossEncoderProtocol, SearchProtocol

from rerank.errors import InputError
from rerank.integrations.mteb import MtebPairs, MtebReranker

QUERIES = [{"id": "q1", "text": QUERY}, {"id": "q2", "text": "which city has the Metropolitan Museum of Art?"}]
CORPUS = [{"id": str(index), "text": text, "title": ""} for index, text in enumerate(TEXTS)]
RANKED = {"q1": ["0", "1", "2"], "q2": ["2", "1", "0"]}


class Cities(AbsTaskRetrieval):
    metadata = TaskMetadata(
        name="Cities",
        description="Three texts.",
        reference="https://example.org/cities",
        dataset={"path": "none", "revision": "1"},
        type="Reranking",
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )

    def load_data(self, **options):
        self.dataset = {
            "default": {
                "test": RetrievalSplitData(
                    queries=Dataset.from_list(QUERIES),
                    corpus=Dataset.from_list(CORPUS),
                    relevant_docs={"q1": {"1": 1}, "q2": {"0": 1}},
                    top_ranked=RANKED,
                )
            }
        }
        self.data_loaded = True


def evaluated(model):
    [result] = mteb.evaluate(model, Cities(), cache=None, overwrite_strategy="always", show_progress_bar=False)
    [scores] = result.scores["test"]
    return scores


def test_pairs_are_scored_in_an_evaluation(reranker):
    model = MtebPairs(reranker, name="us/ours")

    assert isinstance(model, CrossEncoderProtocol)
    assert evaluated(model)["ndcg_at_10"] == 1.0
    assert model.mteb_model_meta.name == "us/ours"
    assert model.mteb_model_meta.revision == reranker.judge.key


def test_lists_are_ranked_as_lists(reranker, ordering):
    assert isinstance(MtebReranker(reranker), SearchProtocol)
    assert evaluated(MtebReranker(reranker))["ndcg_at_10"] == 1.0

    listwise = evaluated(MtebReranker(ordering, name="us/order"))

    assert listwise["map_at_1"] == 0.5  # it knows of the first query alone


def test_what_is_to_be_reranked_has_to_be_said(reranker):
    with pytest.raises(InputError, match="give mteb a reranking task"):
        MtebReranker(reranker).search(QUERIES, top_k=10)
    with pytest.raises(InputError, match="takes no further options"):
        MtebReranker(reranker, device="cpu")
