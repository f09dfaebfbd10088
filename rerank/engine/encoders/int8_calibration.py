"""What int8 has to know beforehand: which range each activation needs, measured once a checkpoint and kept."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank.engine.encoders.openvino_graph import Graph, Ranges
from rerank.engine.tokens import Pair
from rerank.errors import FileError
from rerank.io import atomic_write

__all__ = ["QUERIES", "keep", "kept", "key_of", "measured", "sample"]

REVISION = 1
"""Changes when the same texts would give other ranges."""

QUERIES, DOCUMENTS = 8, 4


def sample() -> tuple[list[str], list[str]]:
    """The texts that ship for calibration: the first documents of NovelEval's first queries, as pairs.

    Its other queries see none of them, so that they can say what int8 costs.
    """
    folder = resources.files("rerank") / "catalog" / "datasets" / "noveleval"
    queries = {line["_id"]: line["text"] for line in islice(_lines(folder / "queries.jsonl.gz"), QUERIES)}
    documents = {line["_id"]: f"{line['title']} {line['text']}".strip() for line in _lines(folder / "corpus.jsonl.gz")}
    judged = gzip.decompress((folder / "qrels" / "test.tsv.gz").read_bytes()).decode().splitlines()[1:]
    pairs = [line.split("\t")[:2] for line in judged]
    chosen = [(query, doc) for name in queries for query, doc in islice((p for p in pairs if p[0] == name), DOCUMENTS)]
    return [queries[query] for query, _ in chosen], [documents[doc] for _, doc in chosen]


def key_of(fingerprint: str, pairs: Sequence[Pair], version: str) -> str:
    """What ranges depend on: weights, texts as tokens, how they are measured, and OpenVINO's version."""
    digest = hashlib.sha256(f"{REVISION}|{fingerprint}|{version}".encode())
    for pair in pairs:
        digest.update(np.asarray(pair.ids, np.int32).tobytes() + b"|" + np.asarray(pair.types, np.int32).tobytes())
    return digest.hexdigest()[:32]


def measured(graph: Graph, results: Iterable[Sequence[NDArray[np.float32]]]) -> Ranges:
    """The least and the greatest value of every channel of everything that a graph watches, over all its results."""
    ranges: dict[str, NDArray[np.float32]] = {}
    for _, *ends in results:
        for name, low, high in zip(graph.watched, ends[::2], ends[1::2], strict=True):
            before = ranges.setdefault(name, np.stack([low, high]))
            ranges[name] = np.stack([np.minimum(before[0], low), np.maximum(before[1], high)])
    return ranges


def kept(path: Path) -> Ranges | None:
    """Ranges of before, or None.

    Raises:
        FileError: when the file is there and is no such file.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise FileError(f"{path} holds no calibration ({error}); delete it, and it is measured anew") from error


def keep(path: Path, ranges: Ranges) -> None:
    """Write ranges where `kept` finds them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, **dict(ranges))  # type: ignore[arg-type]  # its stub takes the arrays for an option
    with atomic_write(path, "wb") as file:
        file.write(buffer.getvalue())


def _lines(path: Any) -> list[dict[str, str]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
