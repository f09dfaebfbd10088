"""`rerank graph`: the graph of a corpus on disk, for the algorithms that follow one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rerank.cli import names
from rerank.cli.first_stage import bm25_options, given
from rerank.cli.places import check_new_folder
from rerank.cli.retrieve import first_stage
from rerank.cli.screen import Screen, with_screen

__all__ = ["graph"]


@click.command("graph")
@names.dataset_option()
@names.split_option()
@names.retriever_option()
@click.option(
    "--index",
    type=names.file_type,
    metavar="FOLDER",
    help="An index that `rerank index` made.  [default: one in the cache, built when it is not there]",
)
@bm25_options
@click.option(
    "--neighbours",
    type=names.count_type,
    default=16,
    show_default=True,
    metavar="N",
    help="Neighbours of each document, at the most.",
)
@click.option("--output", "-o", type=names.file_type, required=True, metavar="FOLDER", help="Where the graph will lie.")
@with_screen
def graph(
    *,
    screen: Screen,
    dataset: str,
    split: str | None,
    retriever: str,
    index: Path | None,
    others: tuple[str, ...],
    neighbours: int,
    output: Path,
    **options: Any,
) -> None:
    """Find the nearest neighbours of every document of an index.

    The algorithms gar, ladr and ladr-adaptive follow the graph to documents that the first stage missed. An interrupted
    command goes on where it was.

    \b
    Example:
        rerank graph --dataset noveleval --retriever bm25 --neighbours 8 --output noveleval-graph
    """
    from rerank import registry
    from rerank.datasets import Dataset

    check_new_folder(output)
    chosen = given(options, others)
    loaded = Dataset.load(dataset, split)
    stage = first_stage(retriever, index, chosen, loaded, screen)
    built = registry.load("graph", "corpus").build(stage, output, neighbours=neighbours, progress=screen.bars)
    notes = dict(built.manifest.notes)
    screen.answer(
        {"output": str(output), "retriever": retriever, "dataset": loaded.name, "documents": len(built), **notes}
    )
    screen.say(f"wrote {output}: {notes['edges']:,} neighbours of {len(built):,} documents of {loaded.name}")
    if notes["without_neighbours"]:
        screen.say(f"{notes['without_neighbours']:,} documents have no neighbours")
