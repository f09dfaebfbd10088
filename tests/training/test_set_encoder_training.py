"""Training set-encoders: the judge's scores, whole sets, and eight queries learnt by heart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lists_to_learn import lists
from set_models import CASES, name_of, written
from small_folders import VOCABULARY, bert, wordpiece

from rerank import Document, Reranker
from rerank.errors import InputError
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable
from training.run import run_training
from training.students.set_encoder import SetEncoder
from training.students.student import Lora


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT without dropout."""
    return bert(tmp_path_factory.mktemp("body"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_scores_in_training_are_those_of_lightning_ir(case: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    from training.examples import Example

    student = SetEncoder(written(case, tmp_path / "released")).eval()
    several = list(zip(case["queries"], case["documents"], case["scores"], strict=True))
    kept = [one for one in several if all(text.strip() for text in one[1]) and len(set(one[1])) == len(one[1])]
    examples = [Example(query, tuple(texts)) for query, texts, _ in kept]
    assert examples

    with torch.no_grad():
        got = student(**student.read(examples))

    assert got.tolist() == pytest.approx([score for _, _, scores in kept for score in scores], abs=1e-4)


def test_a_body_is_taken_out_of_any_head(tmp_path: Path) -> None:
    """google/electra-base-discriminator is published as an ElectraForPreTraining."""
    import transformers

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.ElectraConfig(
        vocab_size=len(VOCABULARY), embedding_size=24, max_position_embeddings=64, **shape
    )
    published = transformers.ElectraForPreTraining(config)
    published.save_pretrained(tmp_path)
    wordpiece(tmp_path).save_pretrained(tmp_path)

    student = SetEncoder(tmp_path, query_tokens=8, document_tokens=40)

    name = "encoder.layer.1.output.dense.weight"
    assert torch.equal(student.core.state_dict()[name], published.electra.state_dict()[name])
    assert student(**student.read(lists(1))).shape == (4,)


def test_a_document_learns_from_its_company_and_from_no_other_set(body: Path) -> None:
    student = SetEncoder(body, query_tokens=8, document_tokens=40)
    one, two = lists(2)
    inputs = student.read([one, two])
    embedded = student.core.embeddings.word_embeddings

    alone = student(**student.read([one]))
    together = student(**inputs)
    together[0].backward()

    torch.testing.assert_close(together[:4], alone, rtol=0, atol=1e-4)
    others = set(inputs["input_ids"][4:].flatten().tolist()) - set(inputs["input_ids"][:4].flatten().tolist())
    touched = embedded.weight.grad.abs().sum(1)
    assert others
    assert all(touched[token] == 0 for token in others)
    mates = set(inputs["input_ids"][1:4].flatten().tolist()) - set(inputs["input_ids"][0].tolist())
    assert any(touched[token] > 0 for token in mates), "company is seen through its interaction tokens"


def test_a_body_becomes_a_set_encoder_that_learns_eight_queries(body: Path, tmp_path: Path) -> None:
    options = {"query_tokens": 8, "document_tokens": 40}
    recipe = Recipe(
        StudentTable("set-encoder", str(body), options),
        Objective("infonce"),
        Schedule(max_steps=40, lists=8, learning_rate=3e-3, warmup=0, log_every=1, save_every=20),
    )

    run_training(recipe, tmp_path / "student", examples=lists(8))
    again = run_training(recipe, tmp_path / "student", examples=lists(8))

    log = json.loads((tmp_path / "student" / "training.json").read_text(encoding="utf-8"))["log"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0] / 3
    assert again.resumed == 40
    student = SetEncoder(tmp_path / "student").eval()
    with Reranker(tmp_path / "student") as reranker:
        for example in lists(8):
            documents = [Document(str(place), text) for place, text in enumerate(example.documents)]
            ranked = reranker.rank(example.query, documents)
            with torch.no_grad():
                scores = student(**student.read([example])).tolist()
            assert int(ranked[0].document.doc_id) == (example.relevance or ()).index(1.0)
            got = {int(c.document.doc_id): c.score for c in ranked}
            assert got == pytest.approx(dict(enumerate(scores)), abs=1e-3)


def test_what_no_set_encoder_is_made_of_is_refused(body: Path) -> None:
    with pytest.raises(InputError, match="a set-encoder is trained whole"):
        SetEncoder(body, lora=Lora())
    with pytest.raises(InputError, match="are over the 64 that"):
        SetEncoder(body, query_tokens=32, document_tokens=256)
