"""Simplified TinyBERT: the loss beside a plain computation, and few layers that take after many."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from lists_to_learn import lists
from small_folders import bert
from small_students import first_ranks, learned, losses_of
from torch import Tensor
from torch.nn.functional import cross_entropy

from rerank import checkpoints
from rerank.errors import InputError
from rerank.judges.cross_encoder import CrossEncoder as Judge
from training.losses.layers import layer_mse
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable
from training.run import run_training
from training.students.layer_distilled import PROJECTION, LayerDistilled
from training.trainer import ListTrainer

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three layers, with two logits."""
    return bert(tmp_path_factory.mktemp("teacher"), labels=2, **STILL)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many heads, narrower states and two logits, without dropout."""
    folder = bert(tmp_path_factory.mktemp("small"), labels=2, **STILL)
    config = transformers.BertConfig.from_pretrained(folder)
    config.hidden_size, config.num_hidden_layers = 32, 1
    transformers.set_seed(2)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def plain_attention(model: transformers.BertForSequenceClassification, layer: int, states: Tensor) -> Tensor:
    """q · k / √dim of a layer by its weights: [heads, tokens, tokens]."""
    attention = model.bert.encoder.layer[layer].attention.self
    query, key = (
        linear(states).reshape(len(states), attention.num_attention_heads, -1).transpose(0, 1)
        for linear in (attention.query, attention.key)
    )
    return query @ key.transpose(1, 2) / query.shape[-1] ** 0.5


def test_the_loss_is_what_plain_torch_computes_text_by_text(small: Path, teacher: Path) -> None:
    transformers.set_seed(0)
    weights = {"attention": 0.5, "hidden": 2.0, "soft": 3.0}
    student = LayerDistilled(small, teacher=str(teacher), temperature=2.0, **weights).train()
    examples = lists(2, documents=3)
    objective = Objective("bce")
    inputs, targets = student.read(examples), objective.tensors(examples)

    outputs = student(**inputs)
    loss = objective.of_scores(student.scores_of(outputs), **targets) + student.loss_beside(outputs)

    own, theirs = (
        transformers.BertForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
        for folder in (small, teacher)
    )
    attention, hidden, real = torch.zeros(()), torch.zeros(()), inputs["attention_mask"].bool()
    soft, hard, tokens, pairs = [], [], 0, 0
    labels = [int(grade) for example in examples for grade in example.relevance or ()]
    for row, label in enumerate(labels):
        text = {name: inputs[name][row][real[row]][None] for name in ("input_ids", "token_type_ids", "attention_mask")}
        with torch.no_grad():
            mine, other = (model(**text, output_hidden_states=True) for model in (own, theirs))
            states, wide = mine.hidden_states, other.hidden_states
            # one layer learns from three: the embeddings from the embeddings, layer 1 from layer 3
            for narrow, broad in ((states[0], wide[0]), (states[1], wide[3])):
                hidden = hidden + (narrow[0] @ student.projection.weight.T - broad[0]).square().sum() / 64
            gap = plain_attention(own, 0, states[0][0]) - plain_attention(theirs, 2, wide[2][0])
            attention = attention + gap.square().sum() / 2
        length = int(real[row].sum())
        tokens, pairs = tokens + length, pairs + length**2
        soft.append(cross_entropy(mine.logits / 2, (other.logits / 2).softmax(-1)))
        hard.append(cross_entropy(mine.logits, torch.tensor([label])))
    expected = (
        torch.stack(hard).mean() + 0.5 * attention / pairs + 2.0 * hidden / tokens + 3.0 * torch.stack(soft).mean()
    )
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
    loss.backward()
    assert all(weight.grad is None for weight in student.teacher.parameters())
    assert student.projection.weight.grad.abs().max() > 0


def test_padding_changes_nothing_and_layers_are_summed() -> None:
    states = torch.tensor([[[1.0, 9.0]], [[3.0, 9.0]]])[..., None]  # two layers of a text of two tokens

    value = layer_mse(states, torch.zeros_like(states), torch.tensor([[True, False]])[..., None])

    assert value.item() == 1.0 + 9.0


def recipe(folder: Path, teacher: Path, steps: int = 40, **options: object) -> Recipe:
    table = StudentTable("layer-distilled", str(folder), {"teacher": str(teacher), "max_tokens": 48, **options})
    return Recipe(
        table,
        Objective("bce"),
        Schedule(max_steps=steps, lists=8, learning_rate=5e-3, warmup=0, log_every=1, save_every=20),
    )


def test_one_layer_takes_after_three_and_is_a_cross_encoder(teacher: Path, tmp_path: Path) -> None:
    learned(teacher, tmp_path / "taught", "cross-encoder", "bce", {"max_tokens": 48}, steps=20)

    distilled = recipe(teacher, tmp_path / "taught", layers=1)
    trained = run_training(distilled, tmp_path / "out", examples=lists(8, documents=3))

    losses = losses_of(tmp_path / "out")
    assert losses[-1] < losses[0] / 2
    assert first_ranks(tmp_path / "out") == [0] * 8
    assert (trained.steps, (tmp_path / "out" / PROJECTION).exists()) == (40, False)
    assert isinstance(Judge(tmp_path / "out"), Judge)
    assert checkpoints.settings(tmp_path / "out")["num_hidden_layers"] == 1


def test_a_killed_run_ends_with_the_same_weights(
    small: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = recipe(small, teacher, 24)
    run_training(once, tmp_path / "whole", examples=lists(8, documents=3))
    stopped = ListTrainer.training_step

    def stops(self: ListTrainer, *args: object, **options: object) -> Tensor:
        if self.state.global_step == 22:
            raise KeyboardInterrupt
        return stopped(self, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(ListTrainer, "training_step", stops)
        with pytest.raises(KeyboardInterrupt):
            run_training(once, tmp_path / "cut", examples=lists(8, documents=3))
    again = run_training(once, tmp_path / "cut", examples=lists(8, documents=3))

    assert again.resumed == 20
    whole, cut = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_what_does_not_fit_is_refused(small: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a teacher"):
        LayerDistilled(small)
    with pytest.raises(InputError, match="2 layers cannot learn from 3"):
        LayerDistilled(teacher, teacher=str(teacher), layers=2)
    with pytest.raises(InputError, match="leave out gradient_checkpointing"):
        LayerDistilled(small, teacher=str(teacher)).gradient_checkpointing_enable()
    heads = bert(tmp_path / "heads")
    config = transformers.BertConfig.from_pretrained(heads)
    config.num_attention_heads = 4
    transformers.BertForSequenceClassification(config).save_pretrained(heads)
    with pytest.raises(InputError, match="the student has 2 heads and the teacher 4"):
        LayerDistilled(small, teacher=str(heads))
