"""Vectors of a collection on disk, in one file that is memory-mapped, and the search that leaves none of them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerank.registry import unknown
from retrievers.mapped import new_array

__all__ = ["PRECISIONS", "Best", "Floats", "Found", "Vectors", "create", "exact_search", "join", "kept"]

Floats: TypeAlias = NDArray[np.float32]

Found: TypeAlias = tuple[NDArray[np.int64], Floats]
"""What a search found for a query: indices of documents and their scores, best first."""

Put: TypeAlias = Callable[[int, NDArray[Any], Floats], None]
"""(index of the first row, rows as they are kept, what each is to be multiplied by) into a file."""

PRECISIONS = ("float32", "float16", "int8")
"""How vectors are kept. int8: each with a scale of its own, a quarter of the room."""

QUERY_ROWS = 64
"""Queries that are compared at once, filled up with zeros: so no bit of a score depends on how many there are."""

DOCUMENT_ROWS = 65_536
"""Documents that are compared at once."""

NAME = "vectors.npy"
SCALES = "scales.npy"


def join(shards: Sequence[Path], folder: Path, precision: str) -> None:
    """All shards as one file in the folder of the index."""
    heads = [np.load(path, mmap_mode="r") for path in shards]
    with create(folder, precision, sum(map(len, heads)), heads[0].shape[1]) as put:
        start = 0
        for head in heads:
            put(start, *kept(np.asarray(head), precision))
            start += len(head)


@contextmanager
def create(folder: Path, precision: str, rows: int, dim: int) -> Iterator[Put]:
    """The file of `Vectors`, with what writes rows into it; complete at the end of the block."""
    made = new_array(folder / NAME, np.dtype(precision), (rows, dim))
    scales = np.empty(rows, np.float32)

    def put(start: int, some: NDArray[Any], of_rows: Floats) -> None:
        made[start : start + len(some)], scales[start : start + len(some)] = some, of_rows

    yield put
    made.flush()
    if precision == "int8":
        np.save(folder / SCALES, scales)


class Vectors:
    """The vectors of an index, memory-mapped.

    Args:
        folder: of the index.
    """

    def __init__(self, folder: Path) -> None:
        self.rows: NDArray[Any] = np.load(folder / NAME, mmap_mode="r")
        self.scales: Floats | None = np.load(folder / SCALES) if (folder / SCALES).exists() else None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return int(self.rows.shape[1])

    def block(self, start: int, stop: int) -> Floats:
        """Some of them in float32: [documents, dim]."""
        rows: Floats = np.array(self.rows[start:stop], np.float32)  # a copy: torch wants to be able to write
        return rows if self.scales is None else rows * self.scales[start:stop, None]


def exact_search(vectors: Vectors, queries: Floats, counts: Sequence[int], device: torch.device) -> list[Found]:
    """The documents with the highest inner products: (indices, scores) of each query, best first.

    Equal scores keep the order of the collection.

    Args:
        vectors: of the collection; each block of them goes to the device once for all queries.
        queries: [queries, dim].
        counts: how many documents each query wants.
        device: where the products are computed.
    """
    found = Best(counts)
    for start in range(0, len(vectors), DOCUMENT_ROWS):
        block = torch.from_numpy(vectors.block(start, start + DOCUMENT_ROWS)).to(device)
        for first in range(0, len(queries), QUERY_ROWS):
            rows = _filled(queries[first : first + QUERY_ROWS]).to(device)
            found.see(first, _products(rows, block)[: len(queries) - first], start)
    return found.all()


def _products(rows: Tensor, block: Tensor) -> Tensor:
    """Inner products in float32: [queries, documents]."""
    precise = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return rows @ block.T
    finally:
        torch.backends.cuda.matmul.allow_tf32 = precise


def _filled(rows: Floats) -> Tensor:
    whole = torch.zeros(QUERY_ROWS, rows.shape[1])
    whole[: len(rows)] = torch.from_numpy(np.ascontiguousarray(rows))
    return whole


class Best:
    """The best documents of every query, block by block; equal scores keep the order of the collection.

    Args:
        counts: how many documents each query wants.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self._counts = list(counts)
        self._indices: list[NDArray[np.int64]] = [np.empty(0, np.int64) for _ in counts]
        self._scores: list[Floats] = [np.empty(0, np.float32) for _ in counts]

    def see(self, first: int, scores: Tensor, start: int) -> None:
        """Scores of some queries, [queries, documents], for the documents from index `start` on."""
        for place, row in enumerate(scores):
            query = first + place
            count = min(self._counts[query], len(row))
            least = row.topk(count).values[-1]
            places = (row >= least).nonzero()[:, 0]  # all that tie with the last: the stable sort below decides
            self._merge(query, (places + start).cpu().numpy(), row[places].cpu().numpy())

    def all(self) -> list[Found]:
        """What was best."""
        return list(zip(self._indices, self._scores, strict=True))

    def _merge(self, query: int, indices: NDArray[np.int64], scores: Floats) -> None:
        indices = np.concatenate([self._indices[query], indices])
        scores = np.concatenate([self._scores[query], scores])
        best = np.argsort(-scores, kind="stable")[: self._counts[query]]
        self._indices[query], self._scores[query] = indices[best], scores[best]


def kept(vectors: Floats, precision: str) -> tuple[NDArray[Any], Floats]:
    """Vectors as they are kept, and what each is to be multiplied by."""
    ways: dict[str, Callable[[Floats], tuple[NDArray[Any], Floats]]] = {
        "float32": lambda rows: (rows, np.ones(len(rows), np.float32)),
        "float16": lambda rows: (rows.astype(np.float16), np.ones(len(rows), np.float32)),
        "int8": _rounded,
    }
    if precision not in ways:
        raise unknown("precision", precision, PRECISIONS)
    return ways[precision](vectors)


def _rounded(rows: Floats) -> tuple[NDArray[Any], Floats]:
    scales = np.maximum(np.abs(rows).max(1), 1e-12).astype(np.float32) / 127
    return np.rint(rows / scales[:, None]).astype(np.int8), scales
