"""`rerank train`: recipes that ship, and a run from the command line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import click
import pytest
from click.testing import Result
from lists_to_learn import lists
from small_folders import bert

from rerank.cli.main import COMMANDS, main
from training.checks import check_recipe
from training.examples.formats import write_examples
from training.recipe import find, names


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("examples") / "examples.jsonl"
    write_examples(lists(6), place)
    return place


@pytest.mark.parametrize("name", names())
def test_a_recipe_begins_with_its_command_and_holds_together(name: str) -> None:
    text = (files("rerank") / "catalog" / "training" / f"{name}.toml").read_text(encoding="utf-8")
    _, _, command = text.partition("\n")[0].partition("# rerank ")
    called, *words = shlex.split(command)
    recipe = find(name)

    assert called in COMMANDS
    assert words[0] == name
    made = main.get_command(click.Context(main), called)
    assert made is not None
    made.make_context(called, words)  # refuses unknown options; runs nothing
    check_recipe(recipe)
    assert recipe.description
    assert re.match(r"https://(arxiv|aclanthology|github)", recipe.source)


CROSS_ENCODERS = [name for name in names() if find(name).student.kind in ("cross-encoder", "layer-distilled")]


@pytest.mark.parametrize("name", CROSS_ENCODERS)
def test_every_recipe_of_a_cross_encoder_trains(
    command: Callable[..., Result], name: str, student: Path, examples: Path, tmp_path: Path
) -> None:
    small = ["--set", "student.options.max_tokens=48", "--set", "schedule.lists=2", "--set", "schedule.log_every=1"]
    small += ["--set", f"student.options.teacher={student}"] if find(name).student.kind == "layer-distilled" else []
    where = ["--examples", examples, "--model", student, "--output", tmp_path / "out"]

    result = command("train", name, *where, *small, "--max-steps", 2, "--json", "--quiet")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["steps"] == 2
    assert (tmp_path / "out" / "README.md").exists()


OTHERS = [
    name
    for name in names()
    if find(name).student.kind in ("duo-token", "fusion-in-decoder", "listwise", "score-head", "target-token")
    and name != "rank-without-gpt"  # which wants bitsandbytes and CUDA
]


@pytest.mark.parametrize("name", OTHERS)
def test_every_recipe_of_a_language_model_trains(
    command: Callable[..., Result], name: str, flan: Path, smollm: Path, examples: Path, tmp_path: Path
) -> None:
    from judge_models import tiny_lm, tiny_t5

    recipe = find(name)
    seq2seq = "t5" in recipe.student.model.lower()
    model = tiny_t5(tmp_path / "start", flan) if seq2seq else tiny_lm(tmp_path / "start", smollm)
    place = examples
    if recipe.objective.reads == "preferences":
        place = tmp_path / "pairs.jsonl"
        write_examples([replace(example, pairs=((0, 1, 1.0), (2, 3, 0.5))) for example in lists(2)], place)
    if recipe.objective.reads == "logits":
        place = tmp_path / "logits.jsonl"
        write_examples([replace(example, logits=((1.5, -2.0),) * len(example)) for example in lists(2)], place)
    small = ["--set", "student.options.max_tokens=700", "--set", "schedule.lists=2", "--set", "schedule.accumulate=1"]
    where = ["--examples", place, "--model", model, "--output", tmp_path / "out"]

    result = command("train", name, *where, *small, "--max-steps", 1, "--json", "--quiet")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["steps"] == 1
    assert (tmp_path / "out" / "rerank.toml").exists()


def test_pe_ranks_second_stage_goes_on_from_its_first(
    command: Callable[..., Result], smollm: Path, examples: Path, tmp_path: Path
) -> None:
    from judge_models import tiny_lm
    from published_models import plain_bert

    from rerank import Reranker

    encoder = f"student.options.encoder={plain_bert(tmp_path / 'encoder')}"
    first, second, small = tmp_path / "aligned", tmp_path / "out", ["--examples", examples, "--max-steps", 1, "--quiet"]
    small += ["--set", "schedule.lists=2", "--set", "student.options.document_tokens=48"]

    aligned = command(
        "train", "pe-rank-alignment", "--model", tiny_lm(tmp_path / "lm", smollm), "--output", first, *small,
        "--set", encoder, "--set", "student.options.pooling=mean",
    )  # fmt: skip
    trained = command(
        "train", "pe-rank", "--model", first, "--output", second, *small,
        "--set", "student.options.max_tokens=700", "--set", "schedule.accumulate=1",
    )  # fmt: skip

    assert aligned.exit_code == trained.exit_code == 0, aligned.output + trained.output
    with Reranker(second) as reranker:
        assert len(reranker.rank("who won", ["a wall", "new york", "berlin"])) == 3


def test_a_finished_run_is_said_again_and_not_done_again(
    command: Callable[..., Result], student: Path, examples: Path, tmp_path: Path
) -> None:
    call = ["train", "calibrated", "--examples", examples, "--model", student, "--output", tmp_path / "out"]
    call += ["--max-steps", 2, "--set", "student.options.max_tokens=48"]
    first = command(*call)
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()

    again = command(*call)

    assert first.exit_code == again.exit_code == 0, again.output
    assert "goes on from step 2" in again.stderr
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights


def test_what_is_wrong_is_said_before_anything_is_loaded(
    refused: Callable[..., str], examples: Path, student: Path, tmp_path: Path
) -> None:
    out = ["--output", tmp_path / "out"]
    bad = tmp_path / "bad.jsonl"
    bad.write_text(
        '{"query": "a", "documents": ["b", "c"], "relevance": [1, 0]}\n{"query": " ", "documents": ["b"]}\n',
        encoding="utf-8",
    )

    assert "no recipe is called 'monobrt'; did you mean 'monobert'?" in refused("train", "monobrt", *out)
    assert "no key is called 'list'; did you mean 'lists'?" in refused(
        "train", "monobert", *out, "--set", "schedule.list=3"
    )
    assert "--dataset and --run go together" in refused("train", "monobert", *out, "--dataset", "noveleval")
    assert "has no option 'max_token'" in refused("train", "monobert", *out, "--set", "student.options.max_token=3")
    assert "there is nothing to train on" in refused("train", "monobert", *out)
    said = refused("train", "monobert", "--output", tmp_path / "two", "--examples", bad, "--model", student)
    assert "bad.jsonl:2" in said
    assert "empty query" in said
    assert not (tmp_path / "two" / "checkpoints").exists()


@pytest.mark.parametrize("path", ["student.lora.quantize", "schedule.sampel", "objective.curriculum.steps"])
def test_what_a_recipe_does_not_say_cannot_be_taken_away(refused: Callable[..., str], path: str) -> None:
    line = refused("train", "monot5", "--set", f"{path}=", "--show", "--output", "out")

    assert line == f"rerank: {path} is not said in the recipe, so that there is nothing to take away"


def test_a_recipe_is_shown_as_it_would_be_run(command: Callable[..., Result], tmp_path: Path) -> None:
    result = command("train", "monobert", "--output", tmp_path / "out", "--show", "--set", "student.lora.rank=4")

    assert result.exit_code == 0
    assert "learning_rate = 3e-06" in result.stdout
    assert "[student.lora]\nrank = 4\n" in result.stdout
    assert not (tmp_path / "out").exists()
