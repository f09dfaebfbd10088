"""A folder of text files as a collection: each file is a document, its path is its id."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

from rerank.errors import FileError
from rerank.types import Document, Qrels, Query

__all__ = ["TextFolder"]

ENDINGS = (".txt", ".md", ".rst")


class TextFolder:
    """Text files in UTF-8, those in folders below it too; there are no queries and no judgments.

    Args:
        folder: what is read: files that end in .txt, .md or .rst.

    Raises:
        FileError: when there is no such folder, or no such file in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileError(f"there is no folder {self.folder}")
        self.files = sorted(path for path in self.folder.rglob("*") if path.suffix in ENDINGS and path.is_file())
        if not self.files:
            raise FileError(f"{self.folder} holds no text file; files that end in {', '.join(ENDINGS)} are read")

    def documents(self) -> Iterator[Document]:
        """All of them, by their paths.

        Raises:
            FileError: when one is not in UTF-8.
        """
        return (self._document(path) for path in self.files)

    def corpus_key(self) -> str:
        """The files, their sizes and when they were last changed."""
        states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files]
        return f"{self.folder.resolve()} {hashlib.sha256(repr(states).encode()).hexdigest()}"

    def find(self, doc_ids: Collection[str]) -> dict[str, Document]:
        """Those of these documents that there are."""
        found = {self._name(path): path for path in self.files}
        return {doc_id: self._document(found[doc_id]) for doc_id in doc_ids if doc_id in found}

    def queries(self) -> list[Query]:
        """None."""
        return []

    def qrels(self) -> Qrels:
        """None."""
        return {}

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _document(self, path: Path) -> Document:
        try:
            return Document(self._name(path), path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{path} cannot be read as text in UTF-8: {error}") from error
