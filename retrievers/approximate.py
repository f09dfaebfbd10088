"""Approximate search through faiss: graphs of neighbours (HNSW), and inverted lists of short codes (IVF-PQ)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rerank.errors import InputError
from rerank.registry import extra_for
from retrievers.vectors import DOCUMENT_ROWS, Floats, Vectors

if TYPE_CHECKING:
    from retrievers.dense import Options

__all__ = ["Approximate", "build", "check", "opened"]

NAME = "index.faiss"

TRAINED_ON = 100
"""Vectors a list that IVF-PQ is trained on, at the most; drawn from a seed."""

CODES = 256
"""Values of a byte: no fewer vectors can be told apart by it."""


class Approximate:
    """A faiss index.

    Args:
        index: of faiss, with inner products.
        effort: how many vectors a search looks at, at least as many as it returns (HNSW alone).
    """

    def __init__(self, index: Any, effort: int | None) -> None:
        self._index, self._effort = index, effort

    def search(self, queries: Floats, counts: Sequence[int]) -> list[tuple[Any, Floats]]:
        """The documents that it finds for each query: (indices, scores), best first; equal scores by their index."""
        most = max(counts)
        if self._effort is not None:
            self._index.hnsw.efSearch = max(self._effort, most)
        scores, indices = self._index.search(np.ascontiguousarray(queries, np.float32), most)
        rows = zip(indices, scores, counts, strict=True)
        return [_ordered(found, near, count) for found, near, count in rows]


def check(options: Options) -> None:
    """Refuse what cannot be built, before anything is encoded.

    Raises:
        MissingExtra: when faiss is needed and not installed.
        InputError: when vectors are kept in another precision than a graph of them reads.
    """
    if options.search == "flat":
        return
    _faiss()
    if options.precision != "float32":
        raise InputError(
            f"search={options.search!r} keeps vectors in its own way; leave out precision={options.precision!r}"
        )


def build(folder: Path, options: Options) -> None:
    """Build the index beside the vectors; nothing for exact search."""
    if options.search == "flat":
        return
    vectors = Vectors(folder)
    index = _hnsw(vectors, options) if options.search == "hnsw" else _ivf_pq(vectors, options)
    for start in range(0, len(vectors), DOCUMENT_ROWS):
        index.add(vectors.block(start, start + DOCUMENT_ROWS))
    _faiss().write_index(index, str(folder / NAME))


def opened(folder: Path, options: Options, device: str | None) -> Approximate:
    """The index of a folder; on the GPU when it is asked for and faiss can."""
    faiss = _faiss()
    index = faiss.read_index(str(folder / NAME))
    if options.search == "hnsw":
        return Approximate(index, options.effort)
    index.nprobe = min(options.probes, index.nlist)
    if device is not None and device.startswith("cuda"):
        if not hasattr(faiss, "StandardGpuResources"):
            raise InputError(f"device={device!r}, and the faiss that is installed has no GPU part; install 'dense-gpu'")
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    return Approximate(index, None)


def _hnsw(vectors: Vectors, options: Options) -> Any:
    faiss = _faiss()
    index = faiss.IndexHNSWFlat(vectors.dim, options.links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = options.effort
    return index


def _ivf_pq(vectors: Vectors, options: Options) -> Any:
    faiss = _faiss()
    if vectors.dim % options.code_bytes:
        raise InputError(
            f"code_bytes={options.code_bytes} does not divide a vector's {vectors.dim} numbers; choose one that does"
        )
    if len(vectors) < CODES:
        raise InputError(
            f"ivf-pq needs {CODES} documents to learn its codes from, and there are {len(vectors)}; use flat"
        )
    lists = min(options.lists or round(4 * math.sqrt(len(vectors))), len(vectors) // 39 or 1)
    coarse = faiss.IndexFlatIP(vectors.dim)
    index = faiss.IndexIVFPQ(coarse, vectors.dim, lists, options.code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
    wanted = min(len(vectors), max(TRAINED_ON * lists, 39 * CODES))
    chosen = np.sort(np.random.default_rng(0).choice(len(vectors), wanted, replace=False))
    index.train(np.concatenate([vectors.block(at, at + 1) for at in chosen.tolist()]))
    return index


def _ordered(indices: Any, scores: Floats, count: int) -> tuple[Any, Floats]:
    found = indices >= 0  # -1 where a search found fewer
    indices, scores = indices[found], scores[found]
    order = np.lexsort((indices, -scores))[:count]
    return indices[order], scores[order]


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise extra_for("approximate search", "faiss") from error
    return faiss
