"""Curricula: what is easy weighs more at first, sample by sample, by the step, and in every run the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from killed_runs import killed_behind
from lists_to_learn import lists
from small_folders import bert
from small_students import losses_of

from rerank.errors import InputError, UnknownName
from training.checks import check_recipe
from training.curriculum import SAMPLES, Curriculum, Worths
from training.examples import BadExample, Example
from training.lists import Lists
from training.losses import LOSSES
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable, find
from training.run import run_training
from training.students.cross_encoder import CrossEncoder

HALF = Curriculum("min-max", 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT without dropout."""
    return bert(tmp_path_factory.mktemp("body"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def plain(loss: str, scores: Any, worth: Sequence[float], labels: Sequence[float], progress: float) -> Any:
    """A list's loss with its curriculum, sample by sample in plain Python."""

    def weight(ease: float) -> float:
        return ease * (1 - progress) + progress

    good = [i for i, label in enumerate(labels) if label > 0]
    bad = [i for i, label in enumerate(labels) if label <= 0]
    pairs = [(i, j) for i in good for j in bad]
    ease = {(i, j): (worth[i] - worth[j] + 1) / 2 for i, j in pairs}
    log = torch.nn.functional.logsigmoid
    if loss == "bce":
        parts = [-weight(worth[i] if i in good else 1 - worth[i]) * log(scores[i] if i in good else -scores[i])
                 for i in range(len(labels))]  # fmt: skip
        return sum(parts) / len(parts)
    if loss == "hinge":
        return sum(weight(ease[i, j]) * (1 - scores[i] + scores[j]).relu() for i, j in pairs) / len(pairs)
    if loss == "pair-logistic":
        return sum(-weight(ease[i, j]) * log(scores[i] - scores[j]) for i, j in pairs)
    whole = LOSSES[loss](scores[None], torch.tensor([labels]), torch.ones(1, len(labels), dtype=torch.bool))[0]
    return weight(min(ease.values())) * whole


@pytest.mark.parametrize("loss", SAMPLES)
@pytest.mark.parametrize("step", [0, 1, 9])
def test_every_sample_has_its_own_weight(loss: str, step: int) -> None:
    objective = Objective(loss, curriculum=HALF)
    examples = [
        Example("q", ("a", "b", "c", "d"), (1, 0, 0, 1), (0.9, 0.2, 1.0, 0.0)),
        Example("q", ("a", "b"), (0, 1), (1.0, 0.0)),
    ]
    scores = torch.tensor([0.3, -1.0, 2.0, 0.1, 1.5, -0.5], requires_grad=True)

    got = objective.of_scores(scores, step=step, **objective.tensors(examples))
    got.backward()

    parts, progress = scores.detach().clone().requires_grad_(), min(step, 4) / 4
    of_lists = zip(torch.split(parts, [4, 2]), examples, strict=True)
    expected = sum(plain(loss, part, one.scores or (), one.relevance or (), progress) for part, one in of_lists) / 2
    expected.backward()
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(scores.grad, parts.grad)
    if step >= HALF.steps:
        flat = Objective(loss, target=None if loss in ("bce", "group-ce", "infonce", "softmax") else "relevance")
        assert got.item() == pytest.approx(flat.of_scores(scores, **flat.tensors(examples)).item(), rel=1e-6)


def test_worths_are_of_the_whole_list_whatever_is_drawn_of_it() -> None:
    ranked = Example("q", tuple("abcde"), (0, 0, 0, 0, 1), (50.0, 40.0, 30.0, 20.0, 10.0))
    ordered = replace(ranked, scores=None, order=(4, 0, 1, 2, 3))

    both = replace(ranked, order=(4, 3, 2, 1, 0))  # a teacher's, beside the first stage's scores

    drawn = Lists(Worths([ranked, ordered, both], Curriculum("reciprocal", 1)), sample=2, seed=3)

    by_rank = dict(zip("abcde", (1, 1 / 2, 1 / 3, 1 / 4, 1 / 5), strict=True))
    by_order = dict(zip("eabcd", (1, 1 / 2, 1 / 3, 1 / 4, 1 / 5), strict=True))
    for example, worth in zip((drawn[0], drawn[1], drawn[2]), (by_rank, by_order, by_rank), strict=True):
        assert len(example) == 2
        assert example.documents[1] == "e"
        assert example.scores == pytest.approx([worth[text] for text in example.documents])


@pytest.mark.parametrize("by", ["reciprocal", "min-max", "density"])
def test_training_is_a_plain_loop_whose_weights_grow_with_the_steps(by: str, folder: Path, tmp_path: Path) -> None:
    curriculum, examples = Curriculum(by, 3), lists(2)
    steady: dict[str, Any] = {"warmup": 0, "scheduler": "constant", "weight_decay": 0, "clip": 1e9, "log_every": 1}
    schedule = Schedule(max_steps=4, lists=2, learning_rate=1e-3, **steady)
    student = StudentTable("cross-encoder", str(folder), {"max_tokens": 48})

    run_training(
        Recipe(student, Objective("pair-logistic", curriculum=curriculum), schedule),
        tmp_path / "out",
        examples=examples,
    )

    transformers.set_seed(0)  # the new head is drawn from the schedule's seed
    model = CrossEncoder(folder, max_tokens=48)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
    for step, logged in enumerate(losses_of(tmp_path / "out")):
        parts = []
        for example in examples:
            scores = model(**model.read([example]))
            worth = curriculum.worth(example) or ()
            parts.append(plain("pair-logistic", scores, worth, example.relevance or (), min(step, 3) / 3))
        loss = sum(parts) / len(parts)
        assert logged == pytest.approx(loss.item(), abs=1e-4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert "a curriculum by" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def resumable(folder: Path, output: Path) -> int:
    """A run over two epochs, whose curriculum ends after the point where it is killed; the step it went on from."""
    objective = Objective("pair-logistic", curriculum=Curriculum("density", 5))
    schedule = Schedule(epochs=3, lists=3, sample=2, learning_rate=1e-3, log_every=1, save_every=2)
    recipe = Recipe(StudentTable("cross-encoder", str(folder), {"max_tokens": 48}), objective, schedule)
    return run_training(recipe, output, examples=lists(6)).resumed


def test_a_killed_run_weighs_as_one_that_was_not(folder: Path, tmp_path: Path) -> None:
    killed_behind(3, "test_curriculum", folder, tmp_path / "killed")

    assert (resumable(folder, tmp_path / "killed"), resumable(folder, tmp_path / "whole")) == (2, 0)

    one, two = (tmp_path / name / "model.safetensors" for name in ("killed", "whole"))
    assert one.read_bytes() == two.read_bytes()


def test_what_a_curriculum_cannot_weigh_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one by one, which loss 'lambdarank' does not; use bce, group-ce, hinge"):
        Objective("lambdarank", curriculum=HALF)
    with pytest.raises(InputError, match="target='order', but a curriculum is over labels"):
        Objective("hinge", target="order", curriculum=HALF)
    with pytest.raises(UnknownName, match="'rank'"):
        Curriculum("rank", 4)
    with pytest.raises(InputError, match="a curriculum over 0 steps"):
        Curriculum("density", 0)
    recipe = find("dense", {"objective.curriculum": {"by": "reciprocal", "steps": 3}})
    with pytest.raises(InputError, match="a dense is trained without curriculum"):
        check_recipe(recipe)
    bare = [Example("q", ("a", "b"), (1, 0), where="x.jsonl:7")]
    with pytest.raises(BadExample, match=r"x.jsonl:7: .* by 'min-max' goes by a first stage's scores; .* relevance"):
        Objective("bce", curriculum=HALF).check(Worths(bare, HALF)[index] for index in range(1))


def test_the_recipe_is_the_papers_and_its_keys_can_be_set() -> None:
    recipe = find("curriculum", {"objective.curriculum.by": "density", "objective.curriculum.steps": 8})

    assert recipe.objective.curriculum == Curriculum("density", 8)
    assert find("curriculum").objective.curriculum == Curriculum("reciprocal", 640)
