"""Texts to vectors, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from rerank.errors import InputError
from rerank.judges.bi_encoder import BiEncoder
from retrievers.vectors import Floats

__all__ = ["Encoder"]

AHEAD = 2
"""Shards that wait for each process, so that none has to wait for the disk."""


class Encoder:
    """A bi-encoder; vectors have length 1 where the similarity is the cosine.

    Args:
        folder: the checkpoint.
        options: of `rerank.judges.bi_encoder.BiEncoder`.
        processes: that encode documents side by side.

    Raises:
        InputError: when there is no process, or the similarity is a distance.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any], processes: int = 1) -> None:
        if processes < 1:
            raise InputError(f"processes={processes}; at least 1 has to encode")
        self._folder, self._options, self._processes = folder, dict(options), processes
        self._judge = BiEncoder(folder, kept_megabytes=0, **options)
        self.similarity = self._judge.layout.similarity
        if self.similarity not in ("cosine", "dot"):
            raise InputError(
                f"{folder.name} compares by {self.similarity!r}, and an index finds by cosine or dot; "
                "say similarity='cosine'"
            )
        self._pool: ProcessPoolExecutor | None = None

    @property
    def key(self) -> str:
        """What makes vectors the same: weights, tokenizer, prompts, options."""
        return self._judge.key

    @property
    def device(self) -> torch.device:
        """Of the model."""
        return self._judge.embedder.device

    def queries(self, texts: list[str]) -> Floats:
        """Vectors of queries: [texts, dim]."""
        return _unit(self._judge.vectors(texts, queries=True), self.similarity)

    def texts(self, texts: list[str]) -> Floats:
        """Vectors of texts that are read as documents: [texts, dim]."""
        return _unit(self._judge.vectors(texts), self.similarity)

    def documents(self, shards: Iterable[tuple[Path, list[str]]]) -> Iterator[tuple[Path, Floats]]:
        """(name, texts) to (name, vectors), in order."""
        if self._processes == 1:
            for name, texts in shards:
                yield name, self.texts(texts)
            return
        waiting: deque[tuple[Path, Future[Floats]]] = deque()
        for name, texts in shards:
            waiting.append((name, self._workers().submit(_vectors, texts)))
            if len(waiting) >= AHEAD * self._processes:
                first, future = waiting.popleft()
                yield first, future.result()
        yield from ((name, future.result()) for name, future in waiting)

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _workers(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # CUDA and OpenMP do not survive a fork
            counter = context.Value("i", 0)
            threads = max(1, torch.get_num_threads() // self._processes)
            given = (self._folder, self._options, self.similarity, counter, threads)
            self._pool = ProcessPoolExecutor(self._processes, context, _begin, given)
        return self._pool


_WORKER: dict[str, Any] = {}
"""The model of a process, and how its vectors are compared."""


def _begin(folder: Path, options: dict[str, Any], similarity: str, counter: Any, threads: int) -> None:
    """Load the model, on a GPU of its own where there are several."""
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    torch.set_num_threads(threads)
    if torch.cuda.is_available() and options.get("device") in (None, "cuda"):
        options = {**options, "device": f"cuda:{number % torch.cuda.device_count()}"}
    _WORKER.update(judge=BiEncoder(folder, kept_megabytes=0, **options), similarity=similarity)


def _vectors(texts: list[str]) -> Floats:
    return _unit(_WORKER["judge"].vectors(texts), _WORKER["similarity"])


def _unit(vectors: Floats, similarity: str) -> Floats:
    if similarity == "dot":
        return vectors
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
    return unit
