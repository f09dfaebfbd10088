"""A Lucene index in this process: texts in, one after the other; indices and scores out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from rerank.errors import FileError, InputError
from retrievers.analysis import readable
from retrievers.java import Together, as_java, calling, java

__all__ = ["CONTENTS", "WRITER", "Hits", "LuceneSearcher", "LuceneWriter", "check_threads", "weighted"]

CONTENTS = "contents"
"""The field that is searched, by Anserini's name, whose feedback reads it."""

ID = "id"

WRITER = "org.apache.lucene.index.IndexWriter"
SEARCHER, QUERY = "org.apache.lucene.search.IndexSearcher", "org.apache.lucene.search.Query"
TOP = "org/apache/lucene/search/TopDocs"

MOST_TERMS = 1 << 20
"""Of a query; Lucene's own limit is 1,024, and a learned one may have more."""

BUFFER = 128
"""Megabytes of documents between two segments."""

Hits: TypeAlias = tuple[list[int], list[float]]
"""Indices of documents and their scores, best first."""


class LuceneWriter:
    """Writes an index of one segment, in which Lucene's number of a document is its place in the collection.

    Args:
        folder: of the index.
        analyser: Java's.
        impacts: terms carry their own weights and texts no lengths; otherwise the terms of a document are kept beside
            it, for feedback.
    """

    def __init__(self, folder: Path, analyser: Any, *, impacts: bool = False) -> None:
        self._folder, self._count = folder, 0
        with self._refusing():
            document = java("org.apache.lucene.document.Document")()
            self._name = java("org.apache.lucene.document.StoredField")(ID, as_java("java.lang.String", ""))
            self._order = java("org.apache.lucene.document.BinaryDocValuesField")(ID, _bytes(""))
            kind = as_java("org.apache.lucene.index.IndexableFieldType", _kind(impacts))
            text = as_java("java.lang.CharSequence", "")
            self._text = java("org.apache.lucene.document.Field")(CONTENTS, text, kind)
            for field in (self._text, *(() if impacts else (self._name, self._order))):
                document.add(as_java("org.apache.lucene.index.IndexableField", field))
            self._document = document
            self._writer = java(WRITER)(_directory(folder), _config(analyser))

    def __enter__(self) -> LuceneWriter:
        return self

    def add(self, text: str) -> None:
        """Append a document.

        Raises:
            FileError: when the disk refuses.
        """
        with self._refusing():
            self._name.setStringValue(name := f"{self._count:010}")
            self._order.setBytesValue(_bytes(name))  # Anserini's feedback puts equal scores in the order of names
            self._text.setStringValue(readable(text))
            self._writer.addDocument(self._document)
        self._count += 1

    def finish(self) -> None:
        """One segment of all."""
        with self._refusing():
            self._writer.forceMerge(1)
            self._writer.close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._writer.isOpen():
            with self._refusing():
                self._writer.rollback()

    def _refusing(self) -> AbstractContextManager[None]:
        return calling(lambda said: FileError(f"cannot write the index {self._folder}: {said}"))


class LuceneSearcher:
    """Searches an index, several queries at once.

    Args:
        folder: of the index.
        similarity: Java's.
        threads: how many search side by side; 0 for as many as there are processors.

    Raises:
        FileError: when Lucene cannot read it.
    """

    def __init__(self, folder: Path, similarity: Any, threads: int = 0) -> None:
        self.folder, self.threads = folder, threads or os.cpu_count() or 1
        with self.asking():
            reader = java("org.apache.lucene.index.DirectoryReader").open(_directory(folder))
            self._reader = as_java("org.apache.lucene.index.IndexReader", reader)
            java(SEARCHER).setMaxClauseCount(MOST_TERMS)
            self._searcher = java(SEARCHER)(self._reader)
            self._searcher.setSimilarity(similarity)
            self._search = Together(SEARCHER, "search", f"(L{QUERY.replace('.', '/')};I)L{TOP};", self.threads)

    def search(self, queries: Sequence[Any], counts: Sequence[int]) -> list[Hits]:
        """The best documents of each of Lucene's queries; equal scores in the order of the collection."""
        most = max(1, self._reader.maxDoc())
        number = java("java.lang.Integer")
        asked = [(query, number(min(count, most))) for query, count in zip(queries, counts, strict=True)]
        return [_hits(found) for found in self._search(self._searcher, asked)]

    def asking(self) -> AbstractContextManager[None]:
        """Where it may be asked."""
        return calling(lambda said: FileError(f"Lucene cannot search {self.folder}: {said}"))


def weighted(terms: Sequence[tuple[str, float]]) -> Any:
    """A query of terms and their weights."""
    of_term, boosted = java("org.apache.lucene.search.TermQuery"), java("org.apache.lucene.search.BoostQuery")
    builder = java("org.apache.lucene.search.BooleanQuery$Builder")()
    should = java("org.apache.lucene.search.BooleanClause$Occur").SHOULD
    for term, weight in terms:
        one = of_term(java("org.apache.lucene.index.Term")(CONTENTS, term))
        query = boosted(as_java(QUERY, one), float(weight))
        builder.add(as_java(QUERY, query), should)
    return builder.build()


def check_threads(threads: int) -> None:
    """Refuse a number of threads below 0.

    Raises:
        InputError: when it is one.
    """
    if threads < 0:
        raise InputError(f"threads is {threads}; it must be at least 1, or 0 for as many as there are processors")


def _bytes(text: str) -> Any:
    return java("org.apache.lucene.util.BytesRef")(text.encode("ascii"))


def _hits(found: Any) -> Hits:
    documents = as_java(TOP.replace("/", "."), found).scoreDocs
    return [one.doc for one in documents], [one.score for one in documents]


def _kind(impacts: bool) -> Any:
    """What is kept of the text."""
    kind = java("org.apache.lucene.document.FieldType")()
    kind.setIndexOptions(java("org.apache.lucene.index.IndexOptions").DOCS_AND_FREQS)
    kind.setStoreTermVectors(not impacts)
    kind.setOmitNorms(impacts)
    return kind


def _config(analyser: Any) -> Any:
    """How it is written: only segments beside each other are merged, so that documents keep their order."""
    config = java("org.apache.lucene.index.IndexWriterConfig")(analyser)
    config.setOpenMode(java("org.apache.lucene.index.IndexWriterConfig$OpenMode").CREATE)
    policy = java("org.apache.lucene.index.LogDocMergePolicy")()
    config.setMergePolicy(as_java("org.apache.lucene.index.MergePolicy", policy))
    config.setRAMBufferSizeMB(float(BUFFER))
    return config


def _directory(folder: Path) -> Any:
    directory = java("org.apache.lucene.store.FSDirectory").open(java("java.nio.file.Paths").get(str(folder)))
    return as_java("org.apache.lucene.store.Directory", directory)
