"""`rerank train`: a reranker from a recipe, resumed where it stopped."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from rerank import registry
from rerank.cli import names
from rerank.cli.screen import Screen, with_screen, wrong_usage

__all__ = ["train"]


def _recipes() -> list[str]:
    found: list[str] = registry.load("training", "recipes")()
    return found


@click.command("train")
@click.argument("name", metavar="NAME|FILE.toml", shell_complete=names.completing(_recipes, files=True))
@click.option(
    "--examples", metavar="PLACE",
    help="What it is trained on: a folder of Arrow, or a file or dataset that `rerank examples` reads.  "
    "[default: the recipe's]",
)  # fmt: skip
@click.option("--model", metavar="NAME", help="The checkpoint to start from.  [default: the recipe's]")
@click.option("--output", "-o", type=names.file_type, required=True, metavar="FOLDER", help="Where the model goes.")
@click.option("--max-steps", type=names.count_type, metavar="N", help="Stop after so many optimiser steps.")
@click.option("--seed", type=names.Count(0), metavar="N", help="Of new weights, order and dropout.  [default: 0]")
@click.option("--dataset", metavar="NAME", help="Measured on while it trains; with --run.")
@names.split_option()
@click.option("--run", type=names.file_type, metavar="FILE", help="The TREC run that is reranked and measured.")
@click.option("--cutoff", type=names.count_type, metavar="N", help="Of that run: the best N.  [default: 100]")
@names.measures_option()
@click.option(
    "--set", "changes", multiple=True, metavar="TABLE.KEY=VALUE", callback=names.settings,
    help="In place of what the recipe says, such as schedule.lists=8 or student.lora.rank=16, and without a VALUE "
    "what holds by default; may be repeated.",
)  # fmt: skip
@click.option("--show", is_flag=True, help="Print the recipe as it would be run, and check it; train nothing.")
@with_screen
def train(
    *,
    screen: Screen,
    name: str,
    examples: str | None,
    model: str | None,
    output: Path,
    max_steps: int | None,
    seed: int | None,
    dataset: str | None,
    split: str | None,
    run: Path | None,
    cutoff: int | None,
    measures: tuple[str, ...],
    changes: dict[str, Any] | None,
    show: bool,
) -> None:
    """Train a reranker by a recipe that ships (`rerank list recipes`) or by a file.

    The same command goes on from its last checkpoint. FOLDER gets the model, which loads as `Reranker("FOLDER")`, its
    card, the curves and the log. Examples are checked before the first step; the first bad one is named with its line.

    \b
    Examples:
        rerank train cross-encoder-labels --examples triples.train.small.tsv --output student
        rerank train cross-encoder-margin-mse --examples teacher.arrow --output student --max-steps 20
        rerank train mine.toml --output student --set schedule.learning_rate=1e-5 \\
            --dataset beir/scifact/test --run bm25.trec --measures nDCG@10
    """
    from rerank.cli.evaluate import split_measures

    if (dataset is None) != (run is None):
        raise wrong_usage("--dataset and --run go together: the queries that are measured, and what was found for them")
    if dataset is None and (split or cutoff or measures):
        raise wrong_usage("--split, --cutoff and --measures are of --dataset and --run; give both, or leave them out")
    said: dict[str, Any] = {
        "examples": examples,
        "student.model": model,
        "schedule.max_steps": max_steps,
        "schedule.seed": seed,
        "development.dataset": dataset,
        "development.run": None if run is None else str(run),
        "development.split": split,
        "development.cutoff": cutoff,
        "development.measures": list(split_measures(measures)) or None,
    }
    given = {key: value for key, value in said.items() if value is not None}
    recipe = registry.load("training", "recipe")(name, {**given, **(changes or {})})
    registry.load("training", "check")(recipe)
    if show:
        screen.answer(_plain(asdict(recipe)))
        if not screen.as_json:
            screen.show("\n".join(_lines(_plain(asdict(recipe)))))
        return
    try:
        trained = registry.load("training", "train")(recipe, output, say=screen.say)
    except KeyboardInterrupt:
        raise click.Abort(f"the same command goes on from the last checkpoint in {output / 'checkpoints'}") from None
    screen.answer(_plain(asdict(trained)))
    for measure, value in trained.measures.items():
        screen.say(f"{measure} {value:.4f}")
    screen.say(f"wrote {output}: {trained.steps:,} steps, mean loss {trained.loss:.4f}, {trained.seconds:,.0f} seconds")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """With paths as texts, and without what was not said."""
    return {
        key: _plain(value) if isinstance(value, dict) else str(value) if isinstance(value, Path) else value
        for key, value in values.items()
        if value is not None
    }


def _lines(values: dict[str, Any], above: str = "") -> list[str]:
    lines = [f"{key} = {value!r}" for key, value in values.items() if not isinstance(value, dict)]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += ["", f"[{above}{key}]", *_lines(value, f"{above}{key}.")]
    return lines
