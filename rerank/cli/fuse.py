"""`rerank fuse`: several runs into one."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from rerank.cli import names
from rerank.cli.places import check_new_file
from rerank.cli.screen import Screen, with_screen, wrong_usage
from rerank.errors import InputError
from rerank.types import Document, Query, Ranking

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
    k: int | None,
    cutoff: int | None,
    output: Path,
) -> None:
    """Fuse several runs into one.

    \b
    Examples:
        rerank fuse --run bm25.trec --run dense.trec --output fused.trec
        rerank fuse --run bm25.trec --run dense.trec --method weighted --weights 1,2 --output fused.trec
    """
    from rerank import fusion
    from rerank.io import read_run, write_run

    if k is not None and method in fusion.METHODS and method != "rrf":
        raise wrong_usage(f"--k is of rrf, and of no use to {method}")
    check_new_file(output, *runs)
    options = {} if k is None else {"k": k}
    fused = fusion.fuse([read_run(run) for run in runs], method, weights=_numbers(weights), **options)
    write_run(output, [_ranking(query_id, fused[query_id], cutoff) for query_id in fused], method)
    screen.answer({"output": str(output), "method": method, "runs": [str(run) for run in runs], "queries": len(fused)})
    screen.say(f"wrote {output}: {len(fused):,} queries from {len(runs)} runs by {method}")


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(number) for number in text.replace(",", " ").split()]
    except ValueError as error:
        raise InputError(f"--weights {text!r} are no numbers; write them like 1,0.5") from error


def _ranking(query_id: str, scored: dict[str, float], cutoff: int | None) -> Ranking:
    """Ids and scores as a ranking; a run file holds no texts, and none are written."""
    best = dict(islice(scored.items(), cutoff))
    return Ranking.by_score(Query(query_id, query_id), [Document(doc_id, "") for doc_id in best], list(best.values()))
