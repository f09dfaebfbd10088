"""The corpus graph: for each document of an index its nearest neighbours, on disk. What adaptive reranking follows.

>>> graph = CorpusGraph.build(BM25.open("scifact-bm25"), "scifact-graph", neighbours=16)
>>> graph.neighbours(document)[0].doc_id
'2'
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rerank import config
from rerank.errors import InputError
from rerank.pipeline import Retriever
from rerank.types import Document, Query
from retrievers.documents import DocumentStore, copy_documents
from retrievers.ids import Ids, write_ids
from retrievers.index import Manifest, growing_folder, read_manifest, write_manifest
from retrievers.progress import tracked
from retrievers.shards import Shards

__all__ = ["CorpusGraph", "Options"]

FORMAT = 1

NAME = "neighbours.npy"

SHARD = 1024
"""Documents whose neighbours are looked for, and written, together."""

NOBODY = -1
"""In the place of a neighbour, where there are fewer."""

Near: TypeAlias = NDArray[np.int32]
"""Indices of neighbours, the nearest first: [documents, neighbours]."""


@runtime_checkable
class ByVector(Protocol):
    """A retriever that finds the neighbours of its own documents without their texts."""

    def near(self, start: int, stop: int, count: int) -> list[list[int]]:
        """Indices of the `count` nearest documents of each of these, the nearest first, itself left out."""


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the graph.

    Args:
        neighbours: of each document, at the most.
        retriever: the kind of the index that found them.
        index: what that index was built with.

    Raises:
        InputError: when there is no neighbour.
    """

    neighbours: int
    retriever: str
    index: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise InputError(f"neighbours={self.neighbours}; a graph has at least 1 for each document")


class CorpusGraph:
    """Which documents are near which, out of a folder; `build` makes one, `open` opens it.

    The algorithms `gar`, `ladr` and `ladr-adaptive` follow it: `Reranker("gar", model=…, options={"graph": folder})`.
    The folder holds the documents too: neither the index that it was built over nor the corpus is needed.
    """

    kind = "graph"

    def __init__(self, folder: str | Path) -> None:
        """Open a graph; see `open`."""
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder, self.kind, FORMAT)
        self.options = config.build(Options, self.manifest.options, f"{self.folder}: options")
        self.documents = DocumentStore(self.folder)
        self._near: Near = np.load(self.folder / NAME, mmap_mode="r")
        self._ids = Ids(self.folder)

    @classmethod
    def open(cls, folder: str | Path) -> CorpusGraph:
        """Open a graph that `build` made; everything in it is memory-mapped.

        Raises:
            FileError: when there is none, or it is torn, an index, or from an incompatible version.
        """
        return cls(folder)

    @classmethod
    def build(
        cls, retriever: Retriever, folder: str | Path, *, neighbours: int = 16, progress: bool | None = None
    ) -> CorpusGraph:
        """Find the neighbours of every document of an index, and open the graph.

        Dense vectors are compared with one another; with any other retriever a document's title and text are the query.
        A document without words has no neighbours. What was found is on the disk shard by shard: the same call after an
        interruption goes on from there.

        Args:
            retriever: an open index, such as `BM25.open(…)`.
            folder: where the graph will lie, whole or not at all; must not exist, or be empty.
            neighbours: of each document, at the most; 16 as the authors of GAR have it over BM25.
            progress: show a bar on standard error; None means when that is a terminal.

        Raises:
            InputError: when the retriever has no index of its own, or there are no neighbours to find.
            FileError: when the folder is taken or cannot be written.
        """
        index = _manifest_of(retriever)
        options = Options(neighbours, index.kind, index.options)
        source = _Source(retriever, neighbours)
        made_from = [FORMAT, neighbours, index.kind, index.options, index.fingerprint, index.notes]
        with growing_folder(Path(folder), {"graph": made_from}) as part:
            shards, shown = Shards(part), tracked(source.ids, "finding neighbours", total=len(source), show=progress)
            for path, doc_ids in shards.missing(shown, SHARD):
                with shards.writing(path) as place:
                    np.save(place, source.near(doc_ids))
            near = np.concatenate([np.load(path) for path in shards.paths])
            np.save(part / NAME, near)
            shards.remove()
            copy_documents(source.folder, part)
            write_ids(part, source.ids)
            write_manifest(part, _manifest(options, index, near))
        return cls.open(folder)

    def neighbours(self, document: Document) -> list[Document]:
        """The nearest documents of a document, the nearest first.

        Raises:
            InputError: when the document is not in the graph, or has another text there.
        """
        return [self.documents[place] for place in self._near[self._place(document)].tolist() if place != NOBODY]

    def __len__(self) -> int:
        return self.manifest.documents

    def __str__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        made = f"{self.options.neighbours} neighbours by {self.options.retriever}"
        return f"<CorpusGraph of {len(self):,} documents, {made}, in {self.folder}>"

    def _place(self, document: Document) -> int:
        for place in self._ids.candidates(document.doc_id):
            if (known := self.documents[place]).doc_id != document.doc_id:
                continue
            if known.full_text != document.full_text:
                raise InputError(
                    f"document {document.doc_id!r} is {document.full_text[:40]!r} and in the graph {self.folder} "
                    f"{known.full_text[:40]!r}; give the graph of its corpus"
                )
            return place
        raise InputError(
            f"document {document.doc_id!r} is not in the graph {self.folder}; give the graph of its corpus"
        )


class _Source:
    """Where neighbours are found.

    Args:
        retriever: an open index.
        count: neighbours of a document.
    """

    def __init__(self, retriever: Any, count: int) -> None:
        self._retriever, self._count = retriever, count
        self.folder: Path = retriever.folder
        self._documents: Sequence[Document] = retriever.documents
        self.ids = [document.doc_id for document in self._documents]
        self._places = {doc_id: place for place, doc_id in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def near(self, doc_ids: Sequence[str]) -> Near:
        """Neighbours of documents that follow each other."""
        start = self._places[doc_ids[0]]
        stop = start + len(doc_ids)
        if isinstance(self._retriever, ByVector):
            return self._rows(self._retriever.near(start, stop, self._count))
        return self._rows(list(self._by_text(self._documents[start:stop])))

    def _by_text(self, documents: Sequence[Document]) -> Iterator[list[int]]:
        """Each document's text as a query, which must not find the document itself."""
        asking = [Query(each.doc_id, each.full_text) for each in documents if each.full_text.strip()]
        without = {query.query_id: (query.query_id,) for query in asking}
        found = iter(self._retriever.retrieve(asking, self._count, exclude=without))
        for document in documents:
            ranking = next(found).documents if document.full_text.strip() else ()
            yield [self._places[near.doc_id] for near in ranking]

    def _rows(self, near: Sequence[Sequence[int]]) -> Near:
        rows = np.full((len(near), self._count), NOBODY, np.int32)
        for row, some in zip(rows, near, strict=True):
            row[: len(some)] = some
        return rows


def _manifest_of(retriever: Any) -> Manifest:
    manifest = getattr(retriever, "manifest", None)
    if not isinstance(manifest, Manifest) or not hasattr(retriever, "documents"):
        name = getattr(retriever, "name", type(retriever).__name__)
        raise InputError(f"a graph is built over an index, and {name} has none of its own; give BM25, dense or SPLADE")
    return manifest


def _manifest(options: Options, index: Manifest, near: Near) -> Manifest:
    return Manifest(
        kind=CorpusGraph.kind,
        format=FORMAT,
        options={"neighbours": options.neighbours, "retriever": options.retriever, "index": dict(options.index)},
        documents=len(near),
        fingerprint=index.fingerprint,
        source=index.source,
        versions={**index.versions, "rerank-toolkit": version("rerank-toolkit")},
        notes={"edges": int((near != NOBODY).sum()), "without_neighbours": int((near == NOBODY).all(1).sum())},
    )
