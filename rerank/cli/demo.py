"""`rerank demo`: the whole job on a real collection, in under a minute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rerank.cli import names
from rerank.cli.screen import Screen, with_screen

if TYPE_CHECKING:
    from rerank.demo import Demo, Files

__all__ = ["demo"]

MODEL = "cross-encoder/ms-marco-MiniLM-L12-v2"
SHOWN = 3
"""Ranks of an example that are shown; the report has more."""


@click.command("demo")
@names.model_option(required=False, help=f"A checkpoint: a name, a hub id, or a folder.  [default: {MODEL}]")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    metavar="FOLDER",
    help="Where both runs, the chart and the report go.  [default: demo]",
)
@with_screen
def demo(*, screen: Screen, model: str | None, output: Path) -> None:
    """Retrieve, rerank and evaluate a real collection that ships with the package.

    NovelEval's 21 questions: BM25's best 20 passages, against the same passages reranked by a cross-encoder. Shows the
    measures with confidence intervals and a paired test, what reranking cost, and three questions before and after;
    writes both runs, a chart and a report. Where neither a hub nor a package index can be reached, the small reranker
    that ships with the package takes the other's place, and that is said.

    \b
    Example:
        rerank demo --output demo
    """
    from rerank import demo as library

    library.prepare(output)
    asked = model or MODEL
    _show(screen, library.title(asked))
    with screen.progress(f"fetching {asked}", "bytes") as on_bytes:
        if model is None:
            model, source = library.fetch_any(MODEL, progress=on_bytes)
        else:
            source = library.fetch(model, on_bytes)
    _show(screen, source)
    if model != asked:
        _show(screen, library.title(model))
    with screen.progress("reranking", "pairs") as on_answer:
        found = library.run(model, source, on_answer)
    files = library.write(found, output)
    screen.answer({**found.as_dict(), "files": files.as_dict()})
    if not screen.as_json:
        _show_numbers(screen, found)
        _show_examples(screen, found)
        _close(screen, found, files)


def _show(screen: Screen, line: str) -> None:
    if not screen.as_json:
        screen.show(line)


def _show_numbers(screen: Screen, found: Demo) -> None:
    from rerank.demo import FIRST_STAGE
    from rerank.report import ledger_table, table

    screen.show(table(found.evaluations, FIRST_STAGE), ledger_table(found.ledger))


def _show_examples(screen: Screen, found: Demo) -> None:
    from rerank.demo import HOW_CHOSEN
    from rerank.report import before_after

    screen.show(HOW_CHOSEN)
    for one in found.examples:
        screen.show(f"\n{one.title}", before_after(one.before, one.after, found.dataset.qrels, top=SHOWN))


def _close(screen: Screen, found: Demo, files: Files) -> None:
    """Where everything lies, and what to do next."""
    screen.say(f"wrote {', '.join(map(str, files.written))} in {found.seconds:.0f} s")
    if files.no_chart:
        screen.say(f"no chart: {files.no_chart}")
    screen.say(
        f"next: look at {files.chart or files.report}, then try your own: rerank run --dataset FOLDER --retriever bm25 "
        f"--model {found.model} --output reranked.trec --evaluate"
    )
