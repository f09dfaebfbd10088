"""`rerank calibrate` and `rerank threshold`: what a score means, and which candidates to keep."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rerank.cli import names
from rerank.cli.loading import fetch_reranker
from rerank.cli.places import check_new_file
from rerank.cli.screen import Screen, rows, with_screen, wrong_usage

if TYPE_CHECKING:
    from rerank.calibration import Fit, Quality, Threshold
    from rerank.types import Qrels

__all__ = ["calibrate", "threshold"]


@click.command("calibrate")
@names.dataset_option(required=False)
@names.split_option()
@click.option("--qrels", type=names.file_type, metavar="FILE", help="Judgments of your own, in place of --dataset's.")
@click.option("--run", type=names.file_type, required=True, metavar="FILE", help="A TREC run with a reranker's scores.")
@click.option(
    "--method",
    metavar="NAME",
    default="platt",
    show_default=True,
    help="What to fit: platt, temperature, isotonic.",
)
@click.option(
    "--relevant-from",
    type=names.count_type,
    metavar="N",
    default=1,
    show_default=True,
    help="The least relevance that counts as relevant.",
)
@click.option(
    "--unjudged",
    type=click.Choice(["irrelevant", "left-out"]),
    metavar="NAME",
    default="irrelevant",
    show_default=True,
    help="What a document without a judgment is: irrelevant or left-out.",
)
@click.option(
    "--precision", type=float, multiple=True, metavar="P", help="Say which threshold has it; may be repeated."
)
@click.option("--folds", type=names.Count(2), metavar="N", default=5, show_default=True, help="Parts of the queries.")
@click.option("--seed", type=names.Count(0), metavar="N", default=0, show_default=True, help="Of the parts.")
@names.model_option(required=False, help="The checkpoint whose scores these are, to be kept with the calibration.")
@names.method_options("--reranker")
@names.algorithm_option()
@names.judge_options
@names.token_options
@names.long_document_options
@names.device_options
@names.output_option("The calibration, as JSON.")
@with_screen
def calibrate(
    *,
    screen: Screen,
    dataset: str | None,
    split: str | None,
    qrels: Path | None,
    run: Path,
    precision: tuple[float, ...],
    model: str | None,
    output: Path,
    method: str,
    relevant_from: int,
    unjudged: str,
    folds: int,
    seed: int,
    **options: Any,
) -> None:
    """Fit scores to probabilities of relevance.

    The run holds a reranker's scores of all its documents. ECE and Brier score are shown of the scores' plain sigmoid,
    of the fit on its own examples, and on held-out queries; thresholds are of held-out queries too. With --model (and
    the options that it was run with) the file is tied to that checkpoint.

    \b
    Examples:
        rerank calibrate --dataset scifact --run scored.trec --output calibration.json --precision 0.9
        rerank calibrate --dataset scifact --run scored.trec --method isotonic --output calibration.json \\
            --model cross-encoder/ms-marco-MiniLM-L12-v2
    """
    from rerank import calibration
    from rerank.io import read_run

    if (dataset is None) == (qrels is None):
        raise wrong_usage("give either --dataset or --qrels: where the judgments are")
    given = {name: value for name, value in options.items() if value is not None}
    if given and model is None:
        raise wrong_usage(f"{names.flag(next(iter(given)))} is of no use without --model")
    check_new_file(output, run, qrels)
    found = calibration.fit(
        _judgments(dataset, split, qrels),
        read_run(run),
        method,
        scores_of=_identity(model, given, screen),
        relevant_from=relevant_from,
        unjudged=unjudged,
        folds=folds,
        seed=seed,
    )
    thresholds = [found.threshold_for(precision=asked) for asked in precision]
    found.calibration.save(output)
    _show(found, thresholds, output, screen)


@click.command("threshold")
@click.option("--run", type=names.file_type, required=True, metavar="FILE", help="A TREC run with a reranker's scores.")
@click.option(
    "--calibration", type=names.file_type, required=True, metavar="FILE", help="What `rerank calibrate` has written."
)
@click.option(
    "--at", type=float, metavar="P", help="Keep candidates of at least this probability alone.  [default: keep all]"
)
@names.output_option("The same order, with probabilities.")
@with_screen
def threshold(*, screen: Screen, run: Path, calibration: Path, at: float | None, output: Path) -> None:
    """Put probabilities in place of scores, and keep what is probable.

    \b
    Example:
        rerank threshold --run scored.trec --calibration calibration.json --at 0.5 --output kept.trec
    """
    from rerank.calibration import Calibration
    from rerank.io import read_run, write_run
    from rerank.types import Document, Query, Ranking

    check_new_file(output, run, calibration)
    curve = Calibration.load(calibration)
    rankings = [
        Ranking.by_score(Query(query_id, query_id), [Document(doc_id, "") for doc_id in scores], list(scores.values()))
        for query_id, scores in read_run(run).items()
    ]
    kept = [curve.apply(ranking, threshold=at) for ranking in rankings]
    write_run(output, kept, "probabilities")
    before, after = (sum(map(len, some)) for some in (rankings, kept))
    empty = sum(not ranking for ranking in kept)
    screen.answer(
        {"output": str(output), "queries": len(kept), "candidates": before, "kept": after, "queries_left_empty": empty}
    )
    screen.say(
        f"wrote {output}: {after:,} of {before:,} candidates of {len(kept):,} queries; {empty:,} queries have none"
    )


def _judgments(dataset: str | None, split: str | None, qrels: Path | None) -> Qrels:
    if qrels is not None:
        from rerank.io import read_qrels

        return read_qrels(qrels)
    from rerank.datasets import Dataset

    return Dataset.load(dataset or "", split).qrels


def _identity(model: str | None, options: dict[str, Any], screen: Screen) -> str:
    """Whose scores they are; nobody's when no model is named."""
    if model is None:
        return ""
    from rerank.rerankers.reranker import Reranker

    name, given = names.asked(model, options.pop("reranker", None), options)
    fetch_reranker(name, given, screen)
    with Reranker(name, **given) as reranker:
        return reranker.scores_key


def _show(found: Fit, thresholds: list[Threshold], output: Path, screen: Screen) -> None:
    facts = found.calibration.fitted_to or {}
    screen.answer(
        {
            "output": str(output),
            "method": found.calibration.method,
            "scores_of": found.calibration.scores_of,
            "curve": found.calibration.curve.as_dict(),
            "fitted_to": facts,
            "thresholds": [asdict(one) for one in thresholds],
        }
    )
    if not screen.as_json:
        screen.show(_qualities(found), *([_cuts(thresholds)] if thresholds else []))
    screen.say(
        f"wrote {output}: {found.calibration.method}, {facts['examples']:,} examples of {facts['queries']:,} queries, "
        f"{facts['relevant']:,} relevant, {found.examples.unjudged:,} unjudged"
    )


def _qualities(found: Fit) -> Any:
    lines: list[tuple[str, Quality]] = [
        ("sigmoid of the score", found.before),
        (f"{found.calibration.method}, on its examples", found.fitted),
        (f"{found.calibration.method}, on held-out queries", found.unseen),
    ]
    return rows(
        ["probabilities", "ECE", "Brier"], [[name, f"{one.ece:.4f}", f"{one.brier:.4f}"] for name, one in lines]
    )


def _cuts(thresholds: list[Threshold]) -> Any:
    lines = [
        [
            f"{one.probability:.4f}",
            f"{one.precision:.3f} ({one.low:.3f} to {one.high:.3f})",
            f"{one.recall:.3f}",
            f"{one.relevant:,} of {one.kept:,}",
        ]
        for one in thresholds
    ]
    return rows(["threshold", "precision (95 %)", "recall", "relevant"], lines)
