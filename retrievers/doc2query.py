"""BM25 over documents with the queries that they might answer (doc2query), written while the index is built.

>>> doc2query = Doc2Query.build(documents, folder, model="castorini/doc2query-t5-base-msmarco")
>>> doc2query.written("d1")
('which birds can swim', …)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from rerank import config
from rerank.datasets import Dataset
from rerank.errors import FileError, InputError
from rerank.types import Document
from retrievers.bm25 import BM25, Options, check_content, check_search, manifest_of, write_postings
from retrievers.documents import DocumentStore, DocumentWriter
from retrievers.feedback import Feedback
from retrievers.index import cached_index, check_corpus, growing_folder, write_manifest
from retrievers.progress import tracked, waiting
from retrievers.query_writer import Drawing, QueryWriter, key_of
from retrievers.shards import Shards, written
from retrievers.terms import Terms

__all__ = ["Doc2Query"]

SHARD = 64
"""Documents between two files of queries: what an interruption costs at most."""

QUERIES = "queries.jsonl"

FORMAT = 1


class Doc2Query(BM25):
    """BM25 whose documents are indexed with queries behind them that an encoder-decoder wrote about each.

    It is searched as BM25 is, and returns documents as they were. Feedback reads them without their queries.
    """

    name = "doc2query"

    def __init__(self, folder: str | Path, **search: Any) -> None:
        """Open an index; see `BM25.open`."""
        super().__init__(folder, **search)
        told = self.manifest.notes.get("drawing", {})
        self.drawing = config.build(Drawing, told, f"{self.folder}: drawing")

    @classmethod
    def build(  # type: ignore[override]
        cls,
        documents: Iterable[Document],
        folder: str | Path,
        *,
        model: str,
        expansions: int = 40,
        top_k: int = 10,
        temperature: float = 1.0,
        seed: int = 0,
        max_tokens: int = 512,
        new_tokens: int = 64,
        document_prompt: str = "",
        k1: float = 0.9,
        b: float = 0.4,
        method: str = "lucene",
        stop_words: str = "english",
        stemmer: str = "porter",
        device: str | None = None,
        source: str = "",
        total: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Write queries about documents, index both, and open the index.

        What was written is on the disk every 64 documents: the same call after an interruption goes on from there, and
        writes the same.

        Args:
            documents: with distinct ids; texts may be empty.
            folder: where the index will lie, whole or not at all; must not exist, or be empty.
            model, expansions, top_k, temperature, seed, max_tokens, new_tokens, document_prompt: see
                `retrievers.query_writer.Drawing`.
            k1, b, method, stop_words, stemmer: see `retrievers.bm25.Options`.
            device: of the model.
            source: where the documents come from, for the manifest.
            total: how many there are, to show the time left.
            progress: show a bar on standard error; None means when that is a terminal.

        Raises:
            InputError: when there are no documents, an id occurs twice, or an option is wrong.
            FileError: when the folder is taken or cannot be written.
            CheckpointError: when the model cannot be had, or is no encoder-decoder.
        """
        drawing = Drawing(model, expansions, top_k, temperature, seed, max_tokens, new_tokens, document_prompt)
        options = Options(k1, b, method, stop_words, stemmer)
        key, writer_of_queries = key_of(drawing), QueryWriter(drawing, device)
        made_from = {"format": FORMAT, "writer": key, **dataclasses.asdict(drawing)}
        with growing_folder(Path(folder), made_from) as part:
            shards = Shards(part, ".json")
            with DocumentWriter(part) as writer:
                shown = tracked(documents, "writing queries", total=total, show=progress)
                for path, texts in shards.missing(written(shown, writer), SHARD):
                    with shards.writing(path) as place:
                        place.write_text(json.dumps(writer_of_queries.write(texts)), "utf-8")
            terms = Terms(options.analyser())
            _join(shards.paths, DocumentStore(part) if len(writer) else [], part, terms)
            check_content(len(writer), terms, source)
            with waiting(f"scoring {len(terms.vocabulary):,} terms", show=progress):
                write_postings(terms, options, part)
            shards.remove()
            manifest = manifest_of(cls.name, options, writer, terms, source)
            versions = {**manifest.versions, **{name: version(name) for name in ("torch", "transformers")}}
            notes = {**manifest.notes, "writer": key, "drawing": dataclasses.asdict(drawing)}
            write_manifest(part, dataclasses.replace(manifest, versions=versions, notes=notes))
        return cls.open(folder)

    @classmethod
    def of(  # type: ignore[override]
        cls,
        dataset: Dataset,
        *,
        model: str,
        index: str | Path | None = None,
        expansions: int = 40,
        top_k: int = 10,
        temperature: float = 1.0,
        seed: int = 0,
        max_tokens: int = 512,
        new_tokens: int = 64,
        document_prompt: str = "",
        k1: float = 0.9,
        b: float = 0.4,
        method: str = "lucene",
        stop_words: str = "english",
        stemmer: str = "porter",
        query_side: bool = False,
        feedback: str = "none",
        feedback_documents: int = 10,
        feedback_terms: int = 10,
        original_weight: float = 0.5,
        beta: float = 0.75,
        device: str | None = None,
        progress: bool | None = None,
    ) -> Self:
        """The index of a dataset: opened where it lies already, built first where it does not.

        Args:
            dataset: what to index.
            model: see `build`, as for the others that decide the index.
            index: a folder; None means one in the cache, which changes with the corpus and the options.
            query_side, feedback, feedback_documents, feedback_terms, original_weight, beta: how it is searched, see
                `BM25.open`: the same index serves all.
            device, progress: see `build`.

        Raises:
            FileError: when the index at `index` cannot be read, or was built with other options, or of another corpus.
            InputError, CheckpointError: as `build` does.
        """
        drawing = Drawing(model, expansions, top_k, temperature, seed, max_tokens, new_tokens, document_prompt)
        options = Options(k1, b, method, stop_words, stemmer)
        search: dict[str, Any] = {"feedback": feedback, "feedback_documents": feedback_documents}
        search |= {"feedback_terms": feedback_terms, "original_weight": original_weight, "beta": beta}
        check_search(query_side, Feedback(*search.values()))
        given = {**dataclasses.asdict(drawing), **dataclasses.asdict(options)}
        folder = Path(index) if index is not None else cached_index(cls.name, FORMAT, dataset, given)
        if not folder.exists():
            more: dict[str, Any] = {"device": device, "progress": progress}
            cls.build(dataset.documents(), folder, **given, **more, source=dataset.name, total=dataset.count)
        opened = cls.open(folder, query_side=query_side, **search)
        check_corpus(opened.manifest, dataset, folder)
        if (opened.options, opened.drawing) != (options, drawing):
            built = f"{opened.options} and {opened.drawing}"
            raise FileError(f"{folder} was built with {built}, not with {options} and {drawing}; name another folder")
        return opened

    def written(self, doc_id: str) -> tuple[str, ...]:
        """The queries that were written about a document.

        Raises:
            InputError: when there is no such document.
        """
        if doc_id not in self._written:
            raise InputError(f"{self.folder} holds no document {doc_id!r}")
        return self._written[doc_id]

    @cached_property
    def _written(self) -> dict[str, tuple[str, ...]]:
        with (self.folder / QUERIES).open(encoding="ascii") as lines:
            told = map(json.loads, lines)
            return {each["_id"]: tuple(each["queries"]) for each in told}

    def __repr__(self) -> str:
        return f"<Doc2Query of {len(self):,} documents in {self.folder}>"


def _join(shards: Sequence[Path], documents: Sequence[Document], folder: Path, terms: Terms) -> None:
    """Texts and their queries into terms, and the queries into one file beside the documents."""
    with (folder / QUERIES).open("w", encoding="ascii") as file:
        for document, queries in zip(documents, _read(shards), strict=True):
            terms.add(" ".join([document.full_text, *queries]))
            file.write(json.dumps({"_id": document.doc_id, "queries": queries}) + "\n")


def _read(shards: Sequence[Path]) -> Iterator[list[str]]:
    for path in shards:
        yield from json.loads(path.read_text("utf-8"))
