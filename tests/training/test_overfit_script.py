"""The script that trains real weights on a few queries keeps what it has done, and measures what it says."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from judge_models import tiny_lm
from lists_to_learn import lists
from small_folders import bert

from training.examples import Example
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable

FIRST = {"prompt": "first", "max_tokens": 700}
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("overfit_and_nll")


def plan(steps: int) -> Schedule:
    return Schedule(max_steps=steps, lists=4, learning_rate=3e-3, warmup=0, log_every=1, save_every=steps // 2)


def small(part: Any, student: StudentTable, steps: int) -> Any:
    return replace(part, student=student, by_heart=plan(steps), others=plan(steps))


def test_the_queries_are_named_and_the_trained_share_no_document_with_those_held_out(script: ModuleType) -> None:
    qrels = {query_id: {f"d{query_id}": 1} for query_id in (*script.HELD_OUT, *script.BY_HEART, "5000", "5001")}
    qrels["5002"] = {"d5002": 1, f"d{script.HELD_OUT[3]}": 1}

    others = script.trained_on(qrels)

    assert len({*script.HELD_OUT, *script.BY_HEART}) == 72
    assert others == ["5000", "5001"]


def test_a_student_learns_by_heart_and_others_and_nothing_is_done_twice(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, options = "set-encoder", {"query_tokens": 8, "document_tokens": 32}
    student = StudentTable("set-encoder", str(bert(tmp_path / "body")), options)
    part = small(script.PARTS[name], student, 12)
    monkeypatch.setitem(script.PARTS, name, part)
    learnt, held = lists(8), [replace(one, query_id=f"h{one.query_id}") for one in lists(4, seed=1)]

    for _ in range(2):
        script.kept(tmp_path / f"{name}-by-heart.json", lambda folder: script.by_heart(part, folder, learnt))
        script.kept(tmp_path / f"{name}-held-out.json", lambda folder: script.held_out(part, folder, learnt, held))
        monkeypatch.setattr(script, "trained", None)  # the second time everything is there

    heart = json.loads((tmp_path / f"{name}-by-heart.json").read_text(encoding="utf-8"))
    assert heart["after"]["right"] > heart["before"]["right"]
    assert heart["after"]["nDCG@10"] > heart["before"]["nDCG@10"]
    assert len(heart["losses"]) == 12
    nll = json.loads((tmp_path / f"{name}-held-out.json").read_text(encoding="utf-8"))["nll"]
    assert list(nll) == ["0", "6", "12"]
    assert set(nll["12"]) == set(part.measured)
    assert all(set(values) == {one.query_id for one in held} for values in nll["12"].values())
    assert nll["0"] != nll["6"] != nll["12"]
    table = script.report(tmp_path, len(learnt))
    assert f"| {name} | {part.taught} | 48 | " in table
    assert table.count(f"| {name} |") == 1 + len(part.measured)


def test_what_is_measured_of_an_order_is_what_its_loss_says(script: ModuleType, smollm: Path, tmp_path: Path) -> None:
    part = replace(script.PARTS["FIRST"], student=StudentTable("listwise", str(tiny_lm(tmp_path, smollm)), FIRST))
    [one] = lists(1)
    student = script.beginning(Recipe(part.student, Objective("first")))

    found = script.nll(part, student, one)

    with torch.no_grad():
        said = student(**student.read([one]))
    first, second = (
        said["log_probs"][0, 0].item(),
        Objective("first").of_tokens(said, **Objective("first").tensors([one])),
    )
    assert found == pytest.approx({"the first letter": -first, "joint loss": second.item()})


def test_what_comes_back_is_held_against_what_was_taught(script: ModuleType) -> None:
    one = Example("q", ("a", "b", "c"), relevance=(0, 1, 0), scores=(2.0, 1.0, 3.0))
    yes, no = math.log(0.9), math.log(0.1)

    labels, relevant, order = (script.PARTS[name] for name in ("monoT5", "SPLADE", "RankGPT"))

    assert script.taught(labels, one) == [0, 1, 0]
    assert script.taught(order, one) == [1, 0, 2]
    assert script.as_taught(labels, one, [(1, yes), (0, no), (2, no)])
    assert not script.as_taught(labels, one, [(1, yes), (0, yes), (2, no)])
    assert script.as_taught(relevant, one, [(1, 0.2), (0, 0.1), (2, 0.0)])
    assert not script.as_taught(relevant, one, [(0, 0.2), (1, 0.1), (2, 0.0)])
    assert script.as_taught(order, one, [(2, 0.0), (0, 0.0), (1, 0.0)])
    assert not script.as_taught(order, one, [(2, 0.0), (1, 0.0), (0, 0.0)])


def test_what_equally_likely_answers_cost_is_what_the_losses_say(script: ModuleType) -> None:
    one = Example("q", ("a", "b", "c", "d"), relevance=(0, 1, 0, 0))
    equal, prior = torch.zeros(4), torch.full((4,), math.log(1 / 3))  # sigmoid: a quarter

    [(loss, chance)] = script.PARTS["SPLADE"].measured.values()
    assert script._loss(loss, equal, one).item() == pytest.approx(chance)
    [(loss, chance)] = script.PARTS["monoT5"].measured.values()
    assert script._loss(loss, prior, one).item() == pytest.approx(chance)
    said = {"log_probs": torch.tensor([[-0.5, -9.0]])}
    assert script._loss(script.FIRST_TOKEN, said, one).item() == 0.5
    assert Objective("lm").reads == "tokens"
