"""`rerank fuse`: several runs into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rerank.cli import names
from rerank.cli.places import check_new_file
from rerank.cli.screen import Screen, with_screen, wrong_usage
from rerank.errors import InputError
from rerank.types import Document, Query, Ranking, Scores

if TYPE_CHECKING:
    from rerank.fusion import Tuned

__all__ = ["fuse"]


def _methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from rerank.fusion import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]


@click.command("fuse")
@click.option(
    "--run", "runs", type=names.file_type, multiple=True, required=True, metavar="FILE", help="A TREC run; two or more."
)
@click.option(
    "--method",
    metavar="NAME",
    default="rrf",
    show_default=True,
    shell_complete=_methods,
    help="How (`rerank list fusion`): rrf, combsum, combmnz, weighted, borda.",
)
@click.option("--weights", metavar="X,Y,…", help="One number for each run, in their order.  [default: 1 each]")
@click.option(
    "--dev-run",
    "dev_runs",
    type=names.file_type,
    multiple=True,
    metavar="FILE",
    help="The same systems' runs of development queries, in the order of --run: weights are tuned on them.",
)
@click.option("--dev-qrels", type=names.file_type, metavar="FILE", help="Judgments of the development queries.")
@click.option(
    "--measure",
    metavar="NAME",
    default="nDCG@10",
    show_default=True,
    help="What weights are tuned for, by ir-measures name.",
)
@click.option(
    "--k",
    type=names.Count(0),
    metavar="N",
    help="Of rrf: larger makes the heads of runs count less.  [default: 60]",
)
@click.option("--cutoff", type=names.count_type, metavar="N", help="Write the best N of each query.  [default: all]")
@names.output_option("The fused run.")
@with_screen
def fuse(
    *,
    screen: Screen,
    runs: tuple[Path, ...],
    method: str,
    weights: str | None,
    dev_runs: tuple[Path, ...],
    dev_qrels: Path | None,
    measure: str,
    k: int | None,
    cutoff: int | None,
    output: Path,
) -> None:
    """Fuse several runs into one.

    \b
    Examples:
        rerank fuse --run bm25.trec --run dense.trec --output fused.trec
        rerank fuse --run bm25.trec --run dense.trec --method weighted --weights 1,2 --output fused.trec
        rerank fuse --run bm25.trec --run dense.trec --method weighted --output fused.trec \\
            --dev-run bm25.dev.trec --dev-run dense.dev.trec --dev-qrels dev.qrels
    """
    from rerank import fusion
    from rerank.io import read_run, write_run

    if k is not None and method in fusion.METHODS and method != "rrf":
        raise wrong_usage(f"--k is of rrf, and of no use to {method}")
    if bool(dev_runs) != (dev_qrels is not None) or len(dev_runs) not in (0, len(runs)):
        raise wrong_usage("weights are tuned on a --dev-run for each --run, with --dev-qrels")
    if dev_runs and weights is not None:
        raise wrong_usage("--weights and --dev-run exclude each other")
    check_new_file(output, *runs, *dev_runs, dev_qrels)
    options = {} if k is None else {"k": k}
    tuned = _tuned(dev_runs, dev_qrels, method, measure, options) if dev_qrels is not None else None
    shares = tuned.weights if tuned is not None else _numbers(weights)
    read = [read_run(run) for run in runs]
    fused = fusion.fuse(read, method, weights=shares, **options)
    if not _meet(read):
        named = " and ".join(map(str, runs))
        screen.say(f"note: {named} name no document in common, in no query; see that they are of one collection")
    write_run(output, [_ranking(query_id, fused[query_id], cutoff) for query_id in fused], method)
    facts = {"output": str(output), "method": method, "runs": [str(run) for run in runs], "queries": len(fused)}
    screen.answer({**facts, **({} if tuned is None else {"tuned": asdict(tuned), "measure": measure})})
    if tuned is not None:
        shown = ",".join(f"{share:g}" for share in tuned.weights)
        screen.say(
            f"weights {shown}: {measure} {tuned.value:.4f} on the development queries, {tuned.equal:.4f} if equal"
        )
    screen.say(f"wrote {output}: {len(fused):,} queries from {len(runs)} runs by {method}")


def _meet(runs: Sequence[Scores]) -> bool:
    """Whether any two runs name the same document for a query; ids of two collections never do."""
    named = [{(query_id, doc_id) for query_id, scored in run.items() for doc_id in scored} for run in runs]
    return len(runs) < 2 or len(set().union(*named)) < sum(map(len, named))


def _tuned(runs: Sequence[Path], qrels: Path, method: str, measure: str, options: Mapping[str, int]) -> Tuned:
    """The weights that do best on the development queries."""
    from rerank import fusion
    from rerank.evaluate import evaluate
    from rerank.io import read_qrels, read_run

    judged = read_qrels(qrels)

    def value(fused: Mapping[str, Mapping[str, float]]) -> float:
        rankings = {query_id: _ranking(query_id, scored, None) for query_id, scored in fused.items()}
        return evaluate(judged, rankings, [measure]).means[measure]

    return fusion.tune([read_run(run) for run in runs], value, method, **options)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(number) for number in text.replace(",", " ").split()]
    except ValueError as error:
        raise InputError(f"--weights {text!r} are no numbers; write them like 1,0.5") from error


def _ranking(query_id: str, scored: Mapping[str, float], cutoff: int | None) -> Ranking:
    """Ids and scores as a ranking; a run file holds no texts, and none are written."""
    best = dict(islice(scored.items(), cutoff))
    return Ranking.by_score(Query(query_id, query_id), [Document(doc_id, "") for doc_id in best], list(best.values()))
