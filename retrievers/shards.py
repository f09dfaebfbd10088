"""What an index is made of while it is being made: parts on disk, so that an interrupted build goes on where it was."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rerank.types import Document
from retrievers.documents import DocumentWriter

__all__ = ["SHARD", "Shards", "written"]

SHARD = 4096
"""Documents that are encoded, and written, together."""


class Shards:
    """Files, each under a hash of the texts that it was made of: those that are there already are not made again.

    Args:
        folder: that becomes the index.
        ending: of their names.
    """

    def __init__(self, folder: Path, ending: str = ".npy") -> None:
        self.folder, self.ending = folder / "shards", ending
        self.folder.mkdir(exist_ok=True)
        self.paths: list[Path] = []

    def missing(self, texts: Iterator[str], size: int = SHARD) -> Iterator[tuple[Path, list[str]]]:
        """The shards that are still to be made: where each belongs, and its texts."""
        while shard := list(itertools.islice(texts, size)):
            path = self.folder / f"{len(self.paths):06}-{_digest(shard)}{self.ending}"
            self.paths.append(path)
            if not path.exists():
                yield path, shard

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Where to write a shard that appears whole or not at all."""
        part = path.with_suffix(f".part{self.ending}")
        yield part
        part.rename(path)

    def remove(self) -> None:
        """All of them, also those of texts that have changed since."""
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


def written(documents: Iterable[Document], writer: DocumentWriter) -> Iterator[str]:
    """The texts of documents, which are stored as they go by."""
    for document in documents:
        writer.add(document)
        yield document.full_text


def _digest(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:24]
