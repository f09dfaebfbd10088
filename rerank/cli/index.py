"""`rerank index`: an index on disk, for `rerank retrieve --index`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rerank.cli import names
from rerank.cli.first_stage import bm25_options, buildable, given
from rerank.cli.places import check_new_folder
from rerank.cli.screen import Screen, with_screen

__all__ = ["index"]


@click.command("index")
@names.dataset_option()
@names.split_option()
@names.retriever_option()
@bm25_options
@click.option("--output", "-o", type=names.file_type, required=True, metavar="FOLDER", help="Where the index will lie.")
@with_screen
def index(
    *,
    screen: Screen,
    dataset: str,
    split: str | None,
    retriever: str,
    others: tuple[str, ...],
    output: Path,
    **options: Any,
) -> None:
    """Index a dataset for a retriever.

    `rerank retrieve` without --index builds one in the cache by itself; this puts one where you want it.

    \b
    Example:
        rerank index --dataset noveleval --retriever bm25 --k1 1.2 --b 0.75 --output noveleval-bm25
    """
    from rerank.datasets import Dataset

    check_new_folder(output)
    builder, chosen = buildable(retriever, given(options, others))
    loaded = Dataset.load(dataset, split)
    built = builder.build(
        loaded.documents(), output, source=loaded.name, total=loaded.count, progress=screen.bars, **chosen
    )
    screen.answer({"output": str(output), "retriever": retriever, "dataset": loaded.name, "documents": len(built)})
    screen.say(f"wrote {output}: {len(built):,} documents of {loaded.name}")
