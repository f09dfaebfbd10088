"""Where a document of an index stands, by its id: sorted hashes on disk, memory-mapped, so that opening reads none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

__all__ = ["Ids", "write_ids"]

HASHES, PLACES = "id_hashes.npy", "id_places.npy"


def write_ids(folder: Path, doc_ids: Iterable[str]) -> None:
    """Write the ids of an index, in its order."""
    hashes = np.fromiter(map(_hash, doc_ids), np.uint64)
    order = np.argsort(hashes, kind="stable")
    np.save(folder / HASHES, hashes[order])
    np.save(folder / PLACES, order)


class Ids:
    """The ids of an index in a folder."""

    def __init__(self, folder: Path) -> None:
        self._hashes = np.load(folder / HASHES, mmap_mode="r")
        self._places = np.load(folder / PLACES, mmap_mode="r")

    def candidates(self, doc_id: str) -> list[int]:
        """Indices of the documents that may have the id: as a rule one or none, for two ids may share a hash."""
        wanted = np.uint64(_hash(doc_id))
        held = slice(*(np.searchsorted(self._hashes, wanted, side) for side in ("left", "right")))
        found: list[int] = self._places[held].tolist()
        return found


def _hash(doc_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(doc_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
