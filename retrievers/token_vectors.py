"""Vectors of every token of a collection on disk, memory-mapped, and the MaxSim search that leaves no document out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from rerank.kernels.maxsim import maxsim
from retrievers.vectors import Best, Floats, Found, Vectors, create, kept

__all__ = ["TokenVectors", "exact_search", "join", "save_shard"]

Ends: TypeAlias = NDArray[np.int64]
"""Where the tokens of each document begin, and where those of the last end: [documents + 1]."""

BLOCK = 131_072
"""Tokens that are compared at once, more where one document has more."""

QUERY_STEP = 32
"""Query tokens are filled up to a multiple of it, each query by itself: bits do not depend on the other queries."""

QUERIES = 64
"""Queries that a GPU compares at once; the CPU takes one after the other, whose bits then depend on nothing else."""

NAME = "ends.npy"


class TokenVectors:
    """The token vectors of an index.

    Args:
        folder: of the index.
    """

    def __init__(self, folder: Path) -> None:
        self.vectors, self.ends = Vectors(folder), np.load(folder / NAME)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def of(self, document: int) -> Floats:
        """Those of one document, in float32: [tokens, dim]."""
        return self.vectors.block(int(self.ends[document]), int(self.ends[document + 1]))

    def blocks(self) -> Iterator[tuple[int, Floats, Ends]]:
        """(index of the first document, vectors of whole documents, their ends) until there are no more."""
        first = 0
        while first < len(self):
            room = self.ends[first] + BLOCK
            last = max(first + 1, int(np.searchsorted(self.ends, room, "right")) - 1)
            start, stop = int(self.ends[first]), int(self.ends[last])
            yield first, self.vectors.block(start, stop), self.ends[first : last + 1] - start
            first = last


def save_shard(path: Path, documents: Sequence[Tensor], cut: int, precision: str) -> None:
    """Write the vectors of some documents, of which `cut` were longer than the model reads."""
    lengths = np.array([len(document) for document in documents], np.int64)
    vectors = torch.cat(list(documents)).numpy().astype(np.float32 if precision == "float32" else np.float16)
    np.savez(path, vectors=vectors, lengths=lengths, cut=np.int64(cut))


def join(paths: Sequence[Path], folder: Path, precision: str) -> dict[str, int]:
    """All shards as one file in the folder of the index; one shard is in memory at a time.

    Returns:
        How many vectors there are, how many numbers each has, and how many documents were cut.
    """
    heads = [_head(path) for path in paths]
    ends = np.concatenate([[0], np.concatenate([lengths for lengths, _ in heads]).cumsum()])
    dim = _vectors(paths[0]).shape[1]
    with create(folder, precision, int(ends[-1]), dim) as put:
        start = 0
        for path in paths:
            rows = _vectors(path)
            put(start, *kept(rows.astype(np.float32), precision))
            start += len(rows)
    np.save(folder / NAME, ends)
    return {"vectors": int(ends[-1]), "dim": dim, "cut_documents": sum(cut for _, cut in heads)}


def exact_search(
    collection: TokenVectors, queries: Sequence[Tensor], counts: Sequence[int], device: torch.device
) -> list[Found]:
    """The documents with the highest sums of best matches: (indices, scores) of each query, best first.

    Equal scores keep the order of the collection; documents without a vector are not found.

    Args:
        collection: each block of it goes to the device once for all queries.
        queries: the token vectors of each, [query_tokens, dim].
        counts: how many documents each query wants.
        device: where they are compared.
    """
    best, groups = Best(counts), list(_groups(queries, QUERIES if device.type == "cuda" else 1))
    for first, rows, ends in collection.blocks():
        block, places = torch.from_numpy(rows).to(device), torch.from_numpy(ends).to(device, torch.int32)
        for members in groups:
            filled, mask = _filled([queries[member] for member in members])
            with torch.inference_mode():
                scores = maxsim(filled.to(device), block, places, mask.to(device))
            for member, row in zip(members, scores, strict=True):
                best.see(member, row[None], first)
    return [(indices[np.isfinite(scores)], scores[np.isfinite(scores)]) for indices, scores in best.all()]


def _groups(queries: Sequence[Tensor], most: int) -> Iterator[list[int]]:
    """Queries that are filled up to the same number of tokens, some at a time."""
    rooms: dict[int, list[int]] = {}
    for place, query in enumerate(queries):
        rooms.setdefault(-(-len(query) // QUERY_STEP), []).append(place)
    for places in rooms.values():
        yield from (places[start : start + most] for start in range(0, len(places), most))


def _filled(queries: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """[queries, room, dim], and which of their tokens are no filler: [queries, room]."""
    room = max(1, -(-max(map(len, queries)) // QUERY_STEP)) * QUERY_STEP
    lengths = torch.tensor([len(query) for query in queries])
    filled = torch.stack([pad(query, (0, 0, 0, room - len(query))) for query in queries])
    return filled, torch.arange(room) < lengths[:, None]


def _head(path: Path) -> tuple[Ends, int]:
    with np.load(path) as shard:
        return shard["lengths"], int(shard["cut"])


def _vectors(path: Path) -> NDArray[np.floating]:
    with np.load(path) as shard:
        found: NDArray[np.floating] = shard["vectors"]
        return found
