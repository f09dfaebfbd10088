"""Examples on disk as Arrow, by Hugging Face `datasets`: written once, then memory-mapped."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.errors import FileError, InputError
from rerank.registry import extra_for
from training.examples.record import BadExample, Example

if TYPE_CHECKING:
    from datasets import Dataset, Features

__all__ = ["example_at", "example_of", "features", "open_arrow", "read_arrow", "row_of", "write_arrow"]


def features() -> Features:
    """The columns: those of `Example`, each of them nullable."""
    from datasets import Features, List, Value

    pair = {"first": Value("int32"), "second": Value("int32"), "wins": Value("float64")}
    return Features(
        {
            "query": Value("string"),
            "documents": List(Value("large_string")),
            "relevance": List(Value("float64")),
            "scores": List(Value("float64")),
            "order": List(Value("int32")),
            "pairs": List(pair),
            "query_id": Value("string"),
            "doc_ids": List(Value("string")),
            "where": Value("string"),
            "completion": Value("large_string"),
            "logits": List(List(Value("float64"))),
        }
    )


def row_of(example: Example) -> dict[str, Any]:
    """An example as a row of these columns."""
    row = {one.name: getattr(example, one.name) for one in fields(example)}
    if example.pairs is not None:
        row["pairs"] = [dict(zip(("first", "second", "wins"), pair, strict=True)) for pair in example.pairs]
    return row


def example_of(row: Mapping[str, Any]) -> Example:
    """The example of a row.

    Raises:
        BadExample: as `Example` does.
    """
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    if values.get("pairs") is not None:
        values["pairs"] = tuple((pair["first"], pair["second"], pair["wins"]) for pair in values["pairs"])
    return Example(**values)


def write_arrow(examples: Iterable[Example], folder: str | Path) -> int:
    """Write examples as a folder that `datasets.load_from_disk` reads; whole or not at all.

    Args:
        examples: may be a stream; one at a time is held.
        folder: where to; there is nothing of the name, or an empty folder.

    Returns:
        How many were written.

    Raises:
        InputError: when there is no example.
        FileError: when something lies there already, or the folder above is missing or not writable.
    """
    Dataset = _datasets().Dataset
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileError(f"{folder} exists already; remove it or give another folder")
    try:
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.resolve().parent))
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        written = _cached(Dataset, examples, place / "cache")
        _lay_out(written, place / "written")
        if folder.exists():
            folder.rmdir()
        (place / "written").rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return len(written)


def open_arrow(folder: str | Path) -> Dataset:
    """The `datasets.Dataset` that `write_arrow` left, memory-mapped: what the Hugging Face Trainer reads.

    Raises:
        FileError: when the folder holds none, or one of other columns.
    """
    _datasets()
    from datasets import load_from_disk

    try:
        dataset = load_from_disk(str(folder))
    except (FileNotFoundError, ValueError) as error:
        raise FileError(f"{folder} holds no examples that `rerank examples` wrote ({error})") from error
    known, found = set(features()), set(getattr(dataset, "column_names", ()))
    if not known - {"completion", "logits"} <= found <= known:  # which older folders lack
        raise FileError(
            f"{folder} has other columns: {dataset.column_names}; `rerank examples` writes {list(features())}"
        )
    return dataset


def read_arrow(folder: str | Path) -> Iterator[Example | BadExample]:
    """The examples of a folder that `write_arrow` wrote, one at a time."""
    for number, row in enumerate(open_arrow(folder), start=1):
        try:
            yield example_at(row, folder, number)
        except BadExample as error:
            yield error


def example_at(row: Mapping[str, Any], folder: str | Path, number: int) -> Example:
    """The example of a row, which says its folder and its number where it does not say what file it was read from.

    Raises:
        BadExample: as `Example` does, with folder and number.
    """
    place = f"{folder}: row {number}"
    try:
        return example_of({**row, "where": row.get("where") or place})
    except BadExample as error:
        raise BadExample(error.reason, error.detail, place) from error


def _cached(maker: Any, examples: Iterable[Example], cache: Path) -> Dataset:
    """The examples written through, batch by batch, so that memory stays flat."""
    from datasets import disable_progress_bars
    from datasets.exceptions import DatasetGenerationError

    disable_progress_bars()
    stream = iter(examples)
    if (first := next(stream, None)) is None:
        raise InputError("there is no example to write")

    def rows() -> Iterator[dict[str, Any]]:
        yield from map(row_of, chain([first], stream))

    try:
        # a fingerprint of our own: the generator need not be hashed, and cannot be
        return maker.from_generator(rows, features=features(), cache_dir=str(cache), fingerprint=cache.parent.name)
    except DatasetGenerationError as error:  # what was wrong stands behind it
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from error
        raise


def _lay_out(written: Dataset, folder: Path) -> None:
    """The layout of `save_to_disk`, which would read the whole file again: made of one row, then given the file."""
    written.select(range(1)).save_to_disk(folder)
    [data] = folder.glob("*.arrow")
    [cached] = written.cache_files
    Path(cached["filename"]).replace(data)


def _datasets() -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise extra_for("writing and reading Arrow", "datasets") from error
    return datasets
