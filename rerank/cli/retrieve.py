"""`rerank retrieve`: queries in, a run out."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rerank.cli import names
from rerank.cli.first_stage import bm25_options, given
from rerank.cli.journals import chosen_journal, journalled, journals_of, keeps
from rerank.cli.places import check_new_file
from rerank.cli.reranking import closing, interruptible
from rerank.cli.screen import Screen, with_screen, wrong_usage
from rerank.errors import InputError
from rerank.types import Ranking

if TYPE_CHECKING:
    from rerank.datasets import Dataset

__all__ = ["first_stage", "retrieve"]

AT_ONCE = 100
"""Queries between two looks at the progress."""


@click.command("retrieve")
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
    "--cutoff",
    type=names.count_type,
    default=1000,
    show_default=True,
    metavar="N",
    help="How many documents for each query.",
)
@names.output_option("The run, in TREC's format.")
@with_screen
def retrieve(
    *,
    screen: Screen,
    dataset: str,
    split: str | None,
    retriever: str,
    index: Path | None,
    others: tuple[str, ...],
    cutoff: int,
    output: Path,
    **options: Any,
) -> None:
    """Retrieve the best documents of every query.

    The queries are those with judgments, or all of them where the dataset has no judgments.

    \b
    Example:
        rerank retrieve --dataset noveleval --retriever bm25 --cutoff 20 --output bm25.trec
    """
    from rerank.datasets import Dataset
    from rerank.io import write_run

    check_new_file(output)
    chosen = given(options, others)
    loaded = Dataset.load(dataset, split)
    [table] = journalled([{"retriever": retriever, **chosen}], chosen_journal(output, None, False))
    journals = journals_of([table], output, [])
    stage = first_stage(retriever, index, {key: table[key] for key in table if key != "retriever"}, loaded, screen)
    found = Found(stage, loaded, cutoff)
    with interruptible(*journals), closing(stage, screen) if journals else nullcontext():
        write_run(output, found.rankings(screen), retriever)
    for path in journals:
        screen.say(keeps(path))
    screen.answer({"output": str(output), "retriever": retriever, "dataset": loaded.name, **found.counts})
    screen.say(f"wrote {output}: {found.counts['queries']:,} queries, {found.counts['documents']:,} documents")
    if found.empty:
        screen.say(f"for {found.empty:,} queries nothing was found; they are not in the run, and count as zero")


class Found:
    """What a retriever finds, counted as it goes by."""

    def __init__(self, stage: Any, dataset: Dataset, cutoff: int) -> None:
        self.stage, self.dataset, self.cutoff = stage, dataset, cutoff
        self.counts = {"queries": 0, "documents": 0, "queries_without_documents": 0}

    @property
    def empty(self) -> int:
        """Queries for which nothing was found."""
        return self.counts["queries_without_documents"]

    def rankings(self, screen: Screen) -> Iterator[Ranking]:
        """One at a time, so that no run has to fit into memory."""
        queries = self.dataset.queries
        with screen.progress("retrieving", "queries") as on_progress:
            for start in range(0, len(queries), AT_ONCE):
                some = queries[start : start + AT_ONCE]
                for ranking in self.stage.retrieve(some, self.cutoff, exclude=self.dataset.excluded):
                    self._count(ranking)
                    yield ranking
                on_progress(min(start + AT_ONCE, len(queries)), len(queries))

    def _count(self, ranking: Ranking) -> None:
        self.counts["queries" if ranking else "queries_without_documents"] += 1
        self.counts["documents"] += len(ranking)


def first_stage(name: str, index: Path | None, options: Mapping[str, Any], dataset: Dataset, screen: Screen) -> Any:
    """The retriever of a name, its index opened or built."""
    from rerank import registry, stages

    if index is None:
        return stages.make({"retriever": name, **_bars(name, screen), **options}, dataset, "the options")[0]
    retriever = registry.load("retriever", name)
    if not hasattr(retriever, "open"):
        raise InputError(f"the retriever {name!r} needs no index; leave out --index")
    if fixed := [key for key in options if key not in inspect.signature(retriever.open).parameters]:
        raise InputError(
            f"{', '.join(fixed)} cannot change the index at {index}, which holds its own; leave out one or the other"
        )
    opened = retriever.open(index, **stages.converted(retriever.open, options, f"retriever {name!r}"))
    _check_source(opened, index, dataset, screen)
    return opened


def _check_source(opened: Any, index: Path, dataset: Dataset, screen: Screen) -> None:
    """An index of another collection would answer too, with the wrong documents."""
    source = getattr(getattr(opened, "manifest", None), "source", "")
    if not source:
        screen.say(f"note: {index} does not say what it was built from; see that it is {dataset.name}")
    elif not dataset.has_corpus_of(source):
        raise wrong_usage(f"{index} was built from {source}, not from {dataset.name}; give the index of that dataset")


def _bars(name: str, screen: Screen) -> dict[str, bool]:
    """Whether the retriever shows its own bar while it builds an index, where it can."""
    from rerank import registry

    maker = getattr(registry.load("retriever", name), "of", None)
    return {"progress": screen.bars} if maker and "progress" in inspect.signature(maker).parameters else {}
