"""`rerank distil`: mine, label, train, evaluate: other commands, one after another, each where it is not done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import click

from rerank.cli import names
from rerank.cli.screen import Screen, rows, with_screen
from rerank.errors import FileError, InputError

__all__ = ["distil"]


@dataclass(frozen=True)
class Step:
    """A command of `rerank`, and what is there once it has been done."""

    command: tuple[str, ...]
    result: Path

    @property
    def shown(self) -> str:
        """As a person would type it."""
        return f"rerank {' '.join(map(quote, self.command))}"


@click.command("distil")
@click.argument("recipe", metavar="NAME|FILE.toml")
@names.dataset_option()
@click.option("--split", metavar="NAME", default="train", show_default=True, help="Whose queries are trained on.")
@click.option(
    "--test-dataset", metavar="NAME", help="What the student is measured on.  [default: --dataset, its --test-split]"
)
@click.option(
    "--test-split", metavar="NAME", help="Its judgments.  [default: test; of --test-dataset, its own or test]"
)
@names.retriever_option(required=False)
@click.option(
    "--cutoff",
    type=names.count_type,
    default=100,
    show_default=True,
    metavar="N",
    help="How many documents are retrieved for each query, mined from and reranked.",
)
@click.option("--queries", type=names.count_type, metavar="N", help="Train on the first N.  [default: all]")
@click.option(
    "--negatives", type=names.count_type, default=8, show_default=True, metavar="N", help="For each positive."
)
@click.option("--teacher", metavar="NAME", required=True, help="The reranker that labels: a checkpoint, or hosted.")
@click.option("--teacher-method", metavar="NAME", help="How it is asked (`rerank list methods`).")
@click.option(
    "--labels",
    type=click.Choice(["scores", "order", "pairs"]),
    default="scores",
    show_default=True,
    metavar="WHAT",
    help="What the teacher is asked for, as the recipe's loss needs it: scores, order or pairs.",
)
@click.option("--student", metavar="NAME", help="The checkpoint to start from.  [default: the recipe's]")
@click.option("--max-tokens", type=names.count_type, metavar="N", help="Of a pair, for teacher and student.")
@click.option("--max-steps", type=names.count_type, metavar="N", help="Stop after so many optimiser steps.")
@click.option(
    "--set", "changes", multiple=True, metavar="TABLE.KEY=VALUE", help="In place of what the recipe says; as of train."
)
@names.measures_option()
@click.option("--seed", type=names.Count(0), default=0, metavar="N", help="Of everything that is drawn.  [default: 0]")
@click.option("--output", "-o", type=names.file_type, required=True, metavar="FOLDER", help="Where everything goes.")
@with_screen
def distil(*, screen: Screen, output: Path, measures: tuple[str, ...], **said: Any) -> None:
    """Distil a student from a teacher in one go: mine negatives, label them, train by a recipe, evaluate.

    Each step is a command of `rerank`, which is shown, and leaves its result in FOLDER. After an interruption the same
    command goes on with the step that was not finished, and inside it from its journal or its last checkpoint.

    \b
    Example:
        rerank distil cross-encoder-margin-mse --dataset scifact --retriever bm25 --queries 100 \\
            --teacher ms-marco-MiniLM-L12-v2 --student all-MiniLM-L6-v2 --max-tokens 128 --output distilled
    """
    said["retriever"] = said["retriever"] or "bm25"
    _claim(output, said)
    for step in _steps(output, **said):
        if step.result.exists():
            screen.say(f"{step.result.relative_to(output)} is there")
            continue
        screen.say(f"$ {step.shown}")
        _run(step, quiet=screen.quiet)
    _report(output, measures, said, screen)


def _claim(output: Path, said: dict[str, Any]) -> None:
    """A folder belongs to what it was begun with: half of it made otherwise would be a mixture."""
    place, settings = output / "distil.json", json.loads(json.dumps(said))
    if place.exists():
        before = json.loads(place.read_text(encoding="utf-8"))
        if changed := [name for name in settings if before.get(name) != settings[name]]:
            name = changed[0]
            raise InputError(
                f"{output} was begun with {names.flag(name)} {before.get(name)!r}, not {settings[name]!r}; "
                "give another folder"
            )
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileError(f"{output} exists already and was not made by rerank distil; give another folder")
    try:
        output.mkdir(exist_ok=True)
        place.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot write {place}: {error.strerror or error}") from error


def _steps(
    output: Path,
    *,
    recipe: str,
    dataset: str,
    split: str,
    test_dataset: str | None,
    test_split: str | None,
    retriever: str,
    cutoff: int,
    queries: int | None,
    negatives: int,
    teacher: str,
    teacher_method: str | None,
    labels: str,
    student: str | None,
    max_tokens: int | None,
    max_steps: int | None,
    changes: Sequence[str],
    seed: int,
) -> list[Step]:
    mined, labelled, model = output / "mined", output / "labelled", output / "model"
    first, reranked = output / "first-stage.trec", output / "student.trec"
    tested = _flags(dataset=test_dataset or dataset, split=_tested_split(test_dataset, test_split))
    found = _flags(retriever=retriever, cutoff=cutoff)
    shuffled = _flags(shuffle=seed) if labels != "scores" else ()
    drawn = _flags(seed=seed) if labels == "pairs" else ()
    set_ = tuple(part for change in changes for part in ("--set", change))
    if max_tokens is not None:
        set_ += ("--set", f"student.options.max_tokens={max_tokens}")
    begun = _flags(model=student, max_steps=max_steps, seed=seed)
    asked = _flags(model=teacher, method=teacher_method, max_tokens=max_tokens, labels=labels)
    return [
        Step(
            ("mine", *_flags(dataset=dataset, split=split, retriever=retriever, retrieve_cutoff=cutoff,
                             first_queries=queries, negatives=negatives, seed=seed), "--output", str(mined)),
            mined,
        ),
        Step(("label", str(mined), *asked, *shuffled, *drawn, "--output", str(labelled)), labelled),
        Step(
            ("train", recipe, "--examples", str(labelled), *begun, *set_, "--output", str(model)),
            model / "training.json",
        ),
        Step(("retrieve", *tested, *found, "--output", str(first)), first),
        Step(
            ("rerank", *tested, "--run", str(first), *_flags(model=str(model), max_tokens=max_tokens, cutoff=cutoff),
             "--output", str(reranked)),
            reranked,
        ),
    ]  # fmt: skip


def _tested_split(test_dataset: str | None, test_split: str | None) -> str | None:
    return test_split or (None if test_dataset else "test")


def _flags(**values: Any) -> tuple[str, ...]:
    """Options of a command; what is None is left out."""
    pairs = ((names.flag(name), str(value)) for name, value in values.items() if value is not None)
    return tuple(part for pair in pairs for part in pair)


def _run(step: Step, *, quiet: bool) -> None:
    """The command in this process, its results on standard error: standard output is the report's."""
    from contextlib import redirect_stdout
    from sys import stderr

    from rerank.cli.main import main

    with redirect_stdout(stderr):
        main.main(args=[*step.command, *(["--quiet"] if quiet else [])], standalone_mode=False)
    if not step.result.exists():
        raise InputError(f"rerank {step.command[0]} left no {step.result}; what it says above is why")


def _report(output: Path, measures: tuple[str, ...], said: dict[str, Any], screen: Screen) -> None:
    from rerank.cli.evaluate import split_measures
    from rerank.datasets import Dataset
    from rerank.evaluate import evaluate
    from rerank.io import atomic_write, read_run

    tested = Dataset.load(
        said["test_dataset"] or said["dataset"], _tested_split(said["test_dataset"], said["test_split"])
    )
    chosen = split_measures(measures) or tested.measures
    means: dict[str, dict[str, float]] = {}
    for name in ("first-stage", "student"):
        means[name] = dict(evaluate(tested.qrels, read_run(output / f"{name}.trec"), chosen).means)
    with atomic_write(output / "measures.json") as file:
        json.dump(means, file, indent=1)
    screen.answer({"output": str(output), "dataset": tested.name, "measures": means, "model": str(output / "model")})
    if not screen.as_json:
        lines = [[name, *(f"{found[measure]:.4f}" for measure in chosen)] for name, found in means.items()]
        screen.show(rows([tested.name, *chosen], lines))
    screen.say(f"the student is {output / 'model'}: rerank rerank --model {output / 'model'} …")
