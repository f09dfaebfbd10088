"""`rerank examples`: what there is to train on, read, checked, counted and written as Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rerank import registry
from rerank.cli import names
from rerank.cli.places import check_new_file, check_new_folder
from rerank.cli.screen import Screen, with_screen

__all__ = ["check_output", "examples", "source_options"]

SHOWN = 300
"""Characters of a text that --show prints."""


def _formats(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in registry.load("training", "formats") if name.startswith(incomplete)]


def source_options(command: Any) -> Any:
    """How a source is read: its format, and where the texts are that it names by ids."""
    for decorate in (
        click.option("--strict", is_flag=True, help="Stop at the first bad example, in place of counting it."),
        click.option("--max-documents", type=names.count_type, metavar="N", help="Refuse examples with more than N."),
        click.option(
            "--needs",
            multiple=True,
            metavar="LABELS",
            help="Refuse examples without these labels: relevance, scores, order, pairs, completion or logits; may be "
            "repeated.",
        ),
        click.option("--cutoff", type=names.count_type, metavar="N", help="Of a run: the best N of each query."),
        click.option(
            "--teacher",
            metavar="WHAT",
            help="Of a run: its 'scores' or its 'order' are a teacher's.  [default: neither]",
        ),
        click.option("--permutations", type=names.file_type, metavar="FILE", help="RankGPT's file of answers."),
        click.option("--qrels", type=names.file_type, metavar="FILE", help="Of a run: the judgments."),
        click.option("--queries", type=names.file_type, metavar="FILE", help="Query ids and texts (.tsv or .jsonl)."),
        click.option(
            "--collection", type=names.file_type, metavar="FILE", help="Document ids and texts (.tsv or .jsonl)."
        ),
        names.split_option(),
        names.dataset_option(required=False),
        click.option(
            "--format",
            metavar="NAME",
            shell_complete=_formats,
            help="What SOURCE is (`rerank list formats`).  [default: by its name or its first line]",
        ),
    ):
        command = decorate(command)
    return command


@click.command("examples")
@click.argument("source")
@source_options
@click.option("--show", type=names.count_type, metavar="N", help="Print the first N examples.")
@click.option(
    "--output",
    "-o",
    type=names.file_type,
    metavar="PLACE",
    help="Write them: a folder (Arrow), or a file in .jsonl or .jsonl.gz.  [default: only count]",
)
@with_screen
def examples(*, screen: Screen, source: str, show: int | None, output: Path | None, **options: Any) -> None:
    """Read examples to train on, check and count them, and write them as Arrow.

    SOURCE is a file or a folder of any format (`rerank list formats`), or a dataset's name, whose judgments are
    examples. What cannot be trained on is left out and counted, with the reason and the first lines where it was met.

    \b
    Examples:
        rerank examples triples.train.small.tsv --output triples
        rerank examples qidpidtriples.train.full.2.tsv --collection collection.tsv --queries queries.train.tsv
        rerank examples bm25.trec --dataset beir/scifact/train --qrels train.tsv --cutoff 20 --output examples.jsonl
        rerank examples noveleval --show 1
    """
    if output is not None:
        check_output(output)
    stream = registry.load("training", "read-examples")(source, **options)
    with screen.progress("reading", "examples") as on_progress:
        watched = _watched(stream, on_progress, [] if show is None else [show], screen)
        if output is None:
            for _ in watched:
                pass
        else:
            registry.load("training", "write-examples")(watched, output)
    written = None if output is None else str(output)
    screen.answer({"source": source, "output": written, **stream.counts.as_dict()})
    if not screen.as_json:
        screen.show(*stream.counts.lines())
    if output is not None:
        screen.say(f"wrote {output}")


def check_output(output: Path, *inputs: Path | None) -> None:
    """See that examples can be written there."""
    if output.name.removesuffix(".gz").endswith(".jsonl"):
        check_new_file(output, *inputs)
    else:
        check_new_folder(output)


def _watched(stream: Any, on_progress: Any, show: list[int], screen: Screen) -> Any:
    for number, example in enumerate(stream, start=1):
        on_progress(number, stream.counts.read)
        if show and number <= show[0] and not screen.as_json:
            screen.show("\n".join(_shown(example)), "")
        yield example


def _shown(example: Any) -> list[str]:
    """A query and its documents with what is known about each."""
    places = {} if example.order is None else {index: rank for rank, index in enumerate(example.order, start=1)}
    lines = [f"{example.query}   [{example.where}]" if example.where else example.query]
    for index, text in enumerate(example.documents):
        known = [
            "" if example.relevance is None else f"relevance {example.relevance[index]:g}",
            "" if example.scores is None else f"score {example.scores[index]:.3f}",
            f"rank {places[index]}" if places else "",
            "" if example.logits is None else "logits {:.3f} and {:.3f}".format(*example.logits[index]),
        ]
        said = ", ".join(filter(None, known))
        lines.append(f"  {said + ': ' if said else ''}{text[:SHOWN]}{'…' if len(text) > SHOWN else ''}")
    if example.pairs is not None:
        lines.append(f"  {len(example.pairs)} pairs")
    return lines
