"""`scripts/try_recipes.py`: every recipe has a plan, and what passes ran its own command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rerank.cli.main import main
from training.examples import read_examples
from training.recipe import find, names

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, whose commands run in this process, which has imported everything."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import try_recipes

    def called(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(folder)
        done = CliRunner().invoke(main, list(command))
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)

    monkeypatch.setattr(try_recipes, "_called", called)
    return try_recipes


@pytest.mark.parametrize("name", names())
def test_every_recipe_has_a_plan_that_holds_together(scripts: Any, name: str) -> None:
    from small_checkpoints import REAL, TINY
    from small_marco import FILES

    plan = scripts.plan_of(name)

    assert plan.start in (*REAL, *TINY, *names())
    assert (plan.source[0] if plan.source else plan.examples) in FILES
    find(name, {"schedule.log_every": 1, **plan.changes})


def test_a_recipe_that_brings_something_new_is_refused_with_the_table_that_lacks_it(
    scripts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import recipe_plans

    new = find("monobert")
    student = replace(new.student, model="someone/something-new")

    for recipe, said in (
        (
            replace(new, student=student),
            "monobert: STARTS has no small checkpoint in the place of someone/something-new",
        ),
        (replace(new, student=replace(student, model="bert", kind="new")), "monobert: TOKENS has no length for a new"),
    ):
        monkeypatch.setattr(recipe_plans, "find", lambda name, recipe=recipe: recipe)
        with pytest.raises(LookupError, match=said):
            recipe_plans.plan_of("monobert")
    monkeypatch.setattr(recipe_plans, "SOURCES", {})
    with pytest.raises(LookupError, match=r"monobert: SOURCES does not say what triples\.train\.small\.tsv is made of"):
        recipe_plans.plan_of("monobert")


def test_the_files_are_read_by_their_published_names(scripts: Any, tmp_path: Path) -> None:
    from small_marco import PASSAGES, QUERIES, write_files

    write_files(tmp_path)
    places = {"collection": tmp_path / "collection.tsv", "queries": tmp_path / "queries.train.tsv"}
    sources = {scripts.plan_of(name).source[:1] or (scripts.plan_of(name).examples,) for name in names()}

    found = {name for (name,) in sources}

    assert len(QUERIES) == len(PASSAGES) == 80
    for name in ("triples.train.small.tsv", "qidpidtriples.train.full.2.tsv.gz", "train.jsonl", "pairs.jsonl"):
        examples = read_examples(tmp_path / name, strict=True, **(places if "pid" in name else {}))
        assert name in found
        assert sum(1 for _ in examples) >= 80


def test_a_recipe_that_passes_is_kept_and_one_that_does_not_says_why_and_is_tried_again(
    scripts: Any, sentences: Path, tmp_path: Path
) -> None:
    bench = scripts.Bench(tmp_path, 2)
    passed = bench("calibrated")
    log = json.loads((tmp_path / "calibrated" / "training.json").read_text(encoding="utf-8"))["log"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    again = scripts.Bench(tmp_path, 2)
    again._trained = None  # what is kept is not trained
    kept = again("calibrated")
    longer = scripts.Bench(tmp_path, 3)
    longer.data = (longer.folder / "examples").rename(tmp_path / "gone")
    (longer.folder / "data" / "judged.qrels.tsv").write_text("1000\t0\t9999\t1\n", encoding="utf-8")

    failed = longer("calibrated")

    assert passed.wrong == ""
    assert (passed.first, passed.last) == (losses[0], losses[-1])
    assert kept == passed
    assert failed.wrong.startswith(
        "exit code 2: rerank: judged.qrels.tsv:1: unknown document: '9999' is not in collection"
    )
    assert "| `calibrated` | cross-encoder | all-MiniLM-L6-v2 | " in scripts.table([passed])
    assert scripts.table([failed]).endswith(f"| **{failed.wrong}** |")


def test_quantised_training_must_be_refused_in_one_line(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ["train", "rank-without-gpt", "--examples", "x.jsonl", "--output", str(tmp_path / "out")]

    scripts._check_refusal(words)
    with pytest.raises(AssertionError, match="QLoRA without CUDA: rerank: there is no folder"):
        scripts._check_refusal([*words, "--set", "student.lora.quantize="])
