"""A collection in a BEIR folder: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`, any of them gzipped."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from rerank.errors import FileError, InputError
from rerank.io import read_corpus, read_qrels, read_queries
from rerank.registry import unknown
from rerank.types import Document, Qrels, Query

__all__ = ["BeirFolder"]


class BeirFolder:
    """A folder, and one of its splits.

    Args:
        folder: holds at least the queries; the corpus is looked for when a document is wanted.
        split: None means "test", else the only one there is; a folder without `qrels` has no judgments.

    Raises:
        FileError: when the folder holds no queries, or a file both plain and gzipped.
        UnknownName: when it has no such split.
        InputError: when no split is named and it has several, none of them "test".
    """

    def __init__(self, folder: Path, split: str | None = None) -> None:
        self.folder = folder
        self._queries = _one_of(folder, "queries.jsonl")
        self._qrels = _chosen(folder, split)

    @property
    def corpus_path(self) -> Path:
        """The file of the documents.

        Raises:
            FileError: when there is none, or it is there both plain and gzipped.
        """
        return _one_of(self.folder, "corpus.jsonl")

    def documents(self) -> Iterator[Document]:
        """All documents, one at a time."""
        return read_corpus(self.corpus_path)

    def corpus_key(self) -> str:
        """The corpus file, its size and when it was last changed."""
        path = self.corpus_path.resolve()
        return f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}"

    def find(self, doc_ids: Collection[str]) -> dict[str, Document]:
        """Those of these documents that there are, in one pass that keeps no others."""
        return {document.doc_id: document for document in self.documents() if document.doc_id in doc_ids}

    def queries(self) -> list[Query]:
        """All queries, of every split."""
        return list(read_queries(self._queries))

    def qrels(self) -> Qrels:
        """The judgments of the split; empty when the folder has none at all."""
        return read_qrels(self._qrels) if self._qrels else {}


def _one_of(folder: Path, name: str) -> Path:
    """The file of this name, plain or gzipped."""
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.exists()]
    if not found:
        raise FileError(
            f"{folder} holds no {name} or {name}.gz; a dataset's folder holds corpus.jsonl, queries.jsonl and "
            "qrels/<split>.tsv"
        )
    if len(found) > 1:
        raise FileError(f"{folder} holds both {name} and {name}.gz; keep the one that is meant")
    return found[0]


def _chosen(folder: Path, split: str | None) -> Path | None:
    """The file of the split's judgments; None when none is named and there are none."""
    splits = sorted({path.name.removesuffix(".gz").removesuffix(".tsv") for path in folder.glob("qrels/*.tsv*")})
    if split is None and not splits:
        return None
    chosen = split or ("test" if "test" in splits else splits[0])
    if split is None and chosen != "test" and len(splits) > 1:
        raise InputError(f"{folder} has the splits {', '.join(map(repr, splits))} and no 'test'; name the one you mean")
    if chosen not in splits:
        raise unknown(f"split of {folder}", chosen, splits)
    return _one_of(folder / "qrels", f"{chosen}.tsv")
