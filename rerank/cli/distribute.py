"""`rerank distribute`: an index or a pipeline's run, made shard by shard on the machines of a Ray cluster."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rerank.cli import names
from rerank.cli.first_stage import buildable, parse_options
from rerank.cli.places import check_new_file, check_new_folder
from rerank.cli.run import PipelineFile
from rerank.cli.screen import Screen, with_screen, wrong_usage
from rerank.errors import InputError

if TYPE_CHECKING:
    from rerank.distributed import Crew

__all__ = ["distribute"]

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("distribute")
def distribute() -> None:
    """Index a dataset or run a pipeline on the machines of a Ray cluster.

    What is finished lies in a store that all machines see, a folder or a URL such as s3://bucket/job. A worker that is
    lost loses the shard it was at, which another takes over; the same command after any interruption goes on from what
    the store holds. Without --ray the same is done by this process.

    \b
    Example:
        rerank distribute run configs/bm25-cross-encoder.toml --dataset noveleval --store job --output reranked.trec
    """


def crew_options(command: Command) -> Command:
    """Who works, and where."""
    for decorate in (
        click.option("--gpus", type=float, default=0.0, metavar="X", help="GPUs for each worker.  [default: 0]"),
        click.option("--cpus", type=float, default=1.0, metavar="X", help="Cores for each worker.  [default: 1]"),
        click.option("--workers", type=names.count_type, default=1, metavar="N", help="Side by side.  [default: 1]"),
        click.option(
            "--ray",
            metavar="WHERE",
            help="local: a Ray of its own on this machine; auto: the cluster this machine belongs to; or its address.",
        ),
    ):
        command = decorate(command)
    return command


@distribute.command("run")
@click.argument("file", type=names.file_type, metavar="FILE.toml")
@names.dataset_option()
@names.split_option()
@click.option("--store", required=True, metavar="URL", help="Where shards are kept: a folder or a URL.")
@click.option("--queries-per-shard", type=names.count_type, default=64, metavar="N", help="[default: 64]")
@click.option("--keep", type=names.count_type, metavar="N", help="Write the best N of each query alone.")
@names.output_option("The run, in TREC's format.")
@crew_options
@with_screen
def run(
    *,
    screen: Screen,
    file: Path,
    dataset: str,
    split: str | None,
    store: str,
    queries_per_shard: int,
    keep: int | None,
    output: Path,
    **crew: Any,
) -> None:
    """Retrieve and rerank with the pipeline of a TOML file.

    The run is the one that `rerank run` writes, byte for byte.

    \b
    Example:
        rerank distribute run configs/bm25-cross-encoder.toml --dataset noveleval --store job --output reranked.trec \\
            --ray local --workers 2
    """
    from rerank import config
    from rerank.distributed import run_pipeline

    check_new_file(output, file)
    tables = config.read(PipelineFile, file).stage
    chosen = _crew(crew)
    with _kept(store), screen.progress(f"running {file.name}", "queries") as on_done:
        job = run_pipeline(
            tables if isinstance(tables, list) else [],
            dataset,
            output,
            store=store,
            crew=chosen,
            split=split,
            keep=keep,
            queries_per_shard=queries_per_shard,
            on_done=on_done,
        )
    _close(job, store, screen)


@distribute.command("index")
@names.dataset_option()
@names.split_option()
@names.retriever_option()
@click.option("--option", "others", multiple=True, metavar="KEY=VALUE", help="An option of the retriever, as in TOML.")
@click.option("--store", metavar="URL", help="Where shards are kept.  [default: beside the index, until it is whole]")
@click.option("--output", "-o", type=names.file_type, required=True, metavar="FOLDER", help="Where the index will lie.")
@crew_options
@with_screen
def index(
    *,
    screen: Screen,
    dataset: str,
    split: str | None,
    retriever: str,
    others: tuple[str, ...],
    store: str | None,
    output: Path,
    **crew: Any,
) -> None:
    """Index a dataset for a retriever whose documents are encoded.

    \b
    Example:
        rerank distribute index --dataset noveleval --retriever dense --output noveleval-dense \\
            --option model=sentence-transformers/all-MiniLM-L6-v2 --ray local --workers 2
    """
    from rerank.datasets import Dataset

    check_new_folder(output)
    builder, options = buildable(retriever, parse_options(others))
    if "crew" not in inspect.signature(builder.build).parameters:
        raise InputError(f"the retriever {retriever!r} encodes nothing that workers could share; call 'rerank index'")
    loaded, chosen = Dataset.load(dataset, split), _crew(crew)
    given = {"source": loaded.name, "total": loaded.count, "progress": screen.bars, **options}
    with _kept(store or str(output)):
        built = builder.build(loaded.documents(), output, crew=chosen, store=store, **given)
    screen.answer({"output": str(output), "retriever": retriever, "dataset": loaded.name, "documents": len(built)})
    screen.say(f"wrote {output}: {len(built):,} documents of {loaded.name}")


def _crew(options: dict[str, Any]) -> Crew:
    from rerank.distributed import Crew

    if options["ray"] is None and options["workers"] > 1:
        raise wrong_usage(f"--workers {options['workers']} needs Ray; say where: --ray local, auto, or an address")
    return Crew(**options)


@contextmanager
def _kept(store: str) -> Iterator[None]:
    """Ctrl-C is no bug: say what it leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.Abort(f"{store} keeps the shards that are finished: the same command goes on from there") from None


def _close(job: Any, store: str, screen: Screen) -> None:
    from rerank.report import ledger_table

    counts = {"queries": job.queries, "shards": job.shards, "finished_before": job.finished_before}
    ledgers = [{"stage": name, "ledger": ledger.as_dict()} for name, ledger in job.ledgers]
    screen.answer({"output": str(job.output), "store": store, **counts, "stages": ledgers})
    for name, ledger in job.ledgers:
        screen.say(name)
        screen.add(ledger_table(ledger))
    before = f", {job.finished_before:,} of them finished before" if job.finished_before else ""
    screen.say(f"wrote {job.output}: {job.queries:,} queries in {job.shards:,} shards{before}")
