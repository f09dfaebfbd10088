"""`rerank suite`: a benchmark with one command, into a folder that a paper can be written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rerank.cli import names
from rerank.cli.evaluate import split_measures
from rerank.cli.journals import rerankers_of
from rerank.cli.loading import fetch_reranker
from rerank.cli.reranking import interruptible
from rerank.cli.run import PipelineFile, Watched
from rerank.cli.screen import Screen, with_screen, wrong_usage
from rerank.errors import ConfigError, InputError
from rerank.pipeline import Pipeline

if TYPE_CHECKING:
    from rerank.perturb import Perturbation
    from rerank.suite import Results

__all__ = ["INCOMPLETE", "suite"]

INCOMPLETE = 3
"""Exit code: the report is there, and datasets are missing from it."""

FIRST = "first-stage"
"""What the first pipeline's first stage is called when it is the baseline."""


def _suites() -> Sequence[str]:
    from rerank.suite import known

    return known()


def _perturbations() -> Sequence[str]:
    from rerank.perturb import GROUPS, KINDS

    return [*GROUPS, *KINDS]


@click.command("suite")
@click.argument("name", metavar="NAME|FOLDER", shell_complete=names.completing(_suites, files=True))
@click.option(
    "--pipeline", "pipelines", type=names.file_type, multiple=True, required=True, metavar="FILE",
    help="A pipeline's TOML file, called by its file's name; may be repeated.",
)  # fmt: skip
@click.option(
    "--baseline", type=names.file_type, metavar="FILE",
    help="The pipeline that the others are compared with.  [default: the first stage of the first pipeline]",
)  # fmt: skip
@click.option("--output", "-o", type=names.file_type, required=True, metavar="FOLDER", help="Where everything goes.")
@names.split_option()
@click.option(
    "--cutoff", "cutoffs", multiple=True, metavar="[DATASET=]N",
    help="How many documents first stages hand on, in place of what the files say; may be repeated.",
)  # fmt: skip
@click.option(
    "--perturb", "perturbations", multiple=True, metavar="NAMES", shell_complete=names.completing(_perturbations),
    help="Change queries, lists or documents too, and report what becomes of the rankings: "
    "typos, words, order, number, attacks, all, or one of `rerank list perturbations`; separated by commas.",
)  # fmt: skip
@names.measures_option()
@click.option(
    "--seed", type=names.Count(0), metavar="N", default=0, show_default=True, help="Of intervals, tests, perturbations."
)
@with_screen
def suite(
    *,
    screen: Screen,
    name: str,
    pipelines: tuple[Path, ...],
    baseline: Path | None,
    output: Path,
    split: str | None,
    cutoffs: tuple[str, ...],
    perturbations: tuple[str, ...],
    measures: tuple[str, ...],
    seed: int,
) -> int:
    """Run pipelines over a suite of datasets and report on them.

    NAME is beir, bright, dl or nano; a FOLDER stands for every dataset folder in it. The same command goes on where it
    was stopped, and adds pipelines to what is there. Ends with 3 when a dataset could not be had; the report says why.

    \b
    Examples:
        rerank suite nano --pipeline configs/bm25-cross-encoder.toml --output nano
        rerank suite my-datasets --pipeline a.toml --pipeline b.toml --baseline bm25.toml --output report
        rerank suite my-datasets --pipeline a.toml --perturb typos,order --output report
    """
    from rerank import suite as library

    systems, compared = _systems(pipelines, baseline)
    asked = library.Asked(
        library.Suite.load(name), systems, compared, tuple(split_measures(measures)), split, _cutoffs(cutoffs),
        _chosen(perturbations), seed,
    )  # fmt: skip
    _check(asked.measures, output)
    for tables in systems.values():
        for table in rerankers_of(tables):
            fetch_reranker(table["reranker"], table, screen)
    with interruptible(output / "journals"):
        results = library.evaluate_suite(
            asked, output, say=screen.say, watch=lambda pipeline: _watched(pipeline, screen)
        )
        library.write_report(results, library.Place(output))
    _close(results, output, screen)
    return INCOMPLETE if results.unavailable else 0


def _systems(pipelines: Sequence[Path], baseline: Path | None) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """name -> tables, the baseline first; and the baseline's name."""
    files = list(dict.fromkeys([*([baseline] if baseline is not None else []), *pipelines]))
    stems = [path.stem for path in files]
    if twice := [stem for stem in stems if stems.count(stem) > 1]:
        raise wrong_usage(
            f"two pipelines are called {twice[0]!r}; a run is called like its pipeline's file, rename one"
        )
    systems = {path.stem: _tables(path) for path in files}
    first = systems[stems[0]]
    if baseline is not None or len(first) == 1:
        return systems, stems[0]
    if FIRST in systems:
        raise wrong_usage(f"a pipeline cannot be called {FIRST!r}; rename its file, or give --baseline")
    return {FIRST: first[:1], **systems}, FIRST


def _tables(path: Path) -> list[dict[str, Any]]:
    from rerank import config

    stages = config.read(PipelineFile, path).stage
    if not isinstance(stages, list) or not stages:
        raise ConfigError(f"{path}: a pipeline is one or more [[stage]] tables")
    if any(character.isspace() for character in path.stem):
        raise InputError(f"{path}: a run's name holds no white space; rename the file")
    return stages


def _chosen(given: Sequence[str]) -> tuple[Perturbation, ...]:
    from rerank.perturb import choose

    return choose(name for text in given for name in text.replace(",", " ").split()) if given else ()


def _cutoffs(given: Sequence[str]) -> dict[str, int]:
    """dataset -> cutoff; "" for all that are not named."""
    found: dict[str, int] = {}
    for text in given:
        dataset, _, number = text.rpartition("=")
        if not number.isdecimal() or int(number) < 1:
            raise wrong_usage(f"--cutoff {text}: it is a whole number of at least 1, or DATASET=N")
        if dataset in found:
            raise wrong_usage(f"--cutoff is given twice for {dataset or 'all datasets'}")
        found[dataset] = int(number)
    return found


def _check(measures: Sequence[str], output: Path) -> None:
    """What can be known before the long part begins."""
    from rerank.evaluate import evaluate
    from rerank.registry import extra_for

    if measures:
        evaluate({"q": {"d": 1}}, {"q": {"d": 1.0}}, measures)
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise extra_for("a report with figures", "matplotlib") from error
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; --output is a folder")


def _watched(pipeline: Pipeline, screen: Screen) -> Pipeline:
    """Rerankers with a progress bar; ids may hold blanks here."""
    from rerank.rerankers.reranker import Reranker

    return Pipeline(
        tuple(
            replace(step, stage=Watched(step.stage, screen, checked=False))
            if isinstance(step.stage, Reranker)
            else step
            for step in pipeline.steps
        )
    )


def _close(results: Results, output: Path, screen: Screen) -> None:
    screen.answer(
        {
            "output": str(output),
            "baseline": results.baseline,
            "means": {system: results.mean(system) for system in results.systems},
            "datasets": {one.title: _numbers(results, one.title) for one in results.found.values()},
            "robustness": {
                one.title: [asdict(each) for each in one.robust] for one in results.found.values() if one.robust
            },
            "unavailable": dict(results.unavailable),
        }
    )
    if not screen.as_json:
        screen.show(results.means_sheet().table(), results.differences_sheet().table())
        if (robust := results.robustness_sheet()).rows:
            screen.show(robust.only("dataset", "system", "perturbation", "before", "after", "change", "p").table())
    for name, reason in results.unavailable.items():
        screen.say(f"left out: {name}: {reason}")
    screen.say(f"wrote {output / 'report.html'} and {output / 'report.md'}")


def _numbers(results: Results, title: str) -> Mapping[str, Any]:
    return results.summaries[title].as_dict()
