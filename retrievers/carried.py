"""Documents encoded by a crew: on the machines of a cluster, shard by shard, into a store that all of them see."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerank import checkpoints
from rerank.distributed import Crew, Store
from rerank.errors import CheckpointError
from retrievers.encoding import Encoder
from retrievers.vectors import Floats

__all__ = ["Encoding", "carried"]


@dataclass(frozen=True)
class Encoding:
    """What a worker needs to know to make the vectors that this machine would.

    Args:
        model: as `checkpoints.fetch` finds it on every machine.
        options: of the bi-encoder.
        key: of the encoder here; a worker that finds other weights refuses.
    """

    model: str
    options: Mapping[str, Any]
    key: str

    def __call__(self) -> _Encode:
        return _Encode(self)


class _Encode:
    """Texts to a file of vectors; on a worker."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoder = Encoder(checkpoints.fetch(encoding.model), encoding.options)
        if self._encoder.key != encoding.key:
            raise CheckpointError(
                f"a worker finds {self._encoder.key} as {encoding.model}, and {encoding.key} is what the index is made "
                "by: other weights, or another version"
            )

    def __call__(self, texts: Sequence[str]) -> bytes:
        [(_, vectors)] = self._encoder.documents([(Path(), list(texts))])
        content = io.BytesIO()
        np.save(content, vectors)
        return content.getvalue()


def carried(
    shards: Iterator[tuple[Path, list[str]]], crew: Crew, store: str, encoding: Encoding
) -> Iterator[tuple[Path, Floats]]:
    """(path, texts) to (path, vectors), in whichever order.

    Args:
        shards: named after what is in them, so that a name stands for the same texts in every call.
        crew: who encodes.
        store: a folder or URL.
        encoding: with which model.

    Raises:
        FileError: when the store belongs to another job, or refuses.
        CheckpointError: when a worker finds another model.
    """
    place = Store(store)
    place.begin({"job": 1, "kind": "vectors", **dataclasses.asdict(encoding)})
    paths: dict[str, Path] = {}

    def named() -> Iterator[tuple[str, list[str]]]:
        for path, texts in shards:
            paths[path.name] = path
            yield path.name, texts

    for name in crew.carry(encoding, named(), place):
        yield paths.pop(name), np.load(io.BytesIO(place.read(name)))
