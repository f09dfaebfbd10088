"""RankT5's encoder-only shape: the scores of a plain loop over transformers' encoder, pooled and multiplied by hand."""

from __future__ import annotations

import random

import pytest
import torch
import transformers
from published_models import score_encoder
from small_folders import texts

from rerank import Document, Query, Reranker, checkpoints
from rerank.cost import Ledger
from rerank.errors import CheckpointError
from rerank.judges.score_head import ScoreHead
from rerank.questions import Grade

TRANSFORMERS = {"architectures": ["T5EncoderForSequenceClassification"]}
LIGHTNING = {"architectures": ["MonoT5EncoderModel"], "model_type": "mono", "backbone_model_type": "t5"}
LAYOUTS = {
    "first token, with a bias": ("classifier", TRANSFORMERS, True, 1),
    "mean": ("score", TRANSFORMERS | {"pooling": "mean"}, False, 1),
    "two logits": ("dense", TRANSFORMERS, True, 2),
    "lightning-ir": ("linear", LIGHTNING | {"pooling_strategy": "first"}, False, 1),
    "lightning-ir, mean": ("linear", LIGHTNING | {"pooling_strategy": "mean"}, False, 1),
}


def scores_of(judge: ScoreHead, query: str, documents: list[str], ledger: Ledger | None = None) -> list[float]:
    answers = dict(
        judge.answer([Grade(Query("q", query), Document("d", text)) for text in documents], ledger or Ledger())
    )
    return [answers[index].score for index in range(len(documents))]


@torch.inference_mode()
@pytest.mark.parametrize("name", LAYOUTS)
def test_scores_are_those_of_a_plain_loop(name, flan, tmp_path):
    head, said, bias, labels = LAYOUTS[name]
    model, weight, offset = score_encoder(tmp_path, flan, head, said, bias, labels)
    tokenizer = transformers.AutoTokenizer.from_pretrained(flan)
    documents = texts(9, seed=random.randrange(2**32), longest=40)
    scale = 64**-0.5 if "backbone_model_type" in said else 1.0
    expected = []
    for text in documents:
        ids = tokenizer(f"Query: who won? Document: {text}", return_tensors="pt")["input_ids"]
        states = model(input_ids=ids).last_hidden_state[0]
        pooled = states.mean(0) if "mean" in name else states[0]
        logits = weight @ (pooled * scale) + offset
        expected.append(float(logits[0] if labels == 1 else logits.log_softmax(0)[1]))

    judge, ledger = ScoreHead(tmp_path, prompt="rankt5"), Ledger()
    got = scores_of(judge, "who won?", documents, ledger)

    assert checkpoints.kind(tmp_path) == "encoder-head"
    assert torch.tensor(expected).std() > 1e-2, "a model that tells nothing apart proves nothing"
    assert got == pytest.approx(expected, abs=1e-4)
    assert got == [scores_of(judge, "who won?", [text])[0] for text in documents]
    assert ledger.total["flops"] > 0


def test_a_reranker_finds_its_judge(flan, tmp_path):
    score_encoder(tmp_path, flan, "classifier", TRANSFORMERS, True, 1)

    reranker = Reranker("rankt5-encoder", model=tmp_path)

    assert isinstance(reranker.judge, ScoreHead)
    assert isinstance(Reranker(tmp_path, prompt="rankt5").judge, ScoreHead)
    assert len(reranker.rank("who won?", ["art", "the wall"])) == 2


@pytest.mark.parametrize(
    ("head", "said", "labels", "message"),
    [
        ("other", {}, 1, "has no linear layer beside its encoder"),
        ("classifier", {"pooling": "max"}, 1, "pooling is 'max'"),
        ("classifier", {}, 3, "gives 3 logits"),
    ],
)
def test_other_heads_are_refused(flan, tmp_path, head, said, labels, message):
    score_encoder(tmp_path, flan, head, TRANSFORMERS | said, True, labels)

    with pytest.raises(CheckpointError, match=message):
        ScoreHead(tmp_path, prompt="rankt5")


def test_what_has_no_words_is_not_asked_for_them(flan, tmp_path):
    score_encoder(tmp_path, flan, "classifier", TRANSFORMERS, True, 1)

    with pytest.raises(CheckpointError, match="is a T5 encoder with a score head, which has no words to be asked for"):
        Reranker(tmp_path, prompt="monot5", judge="target-token")
