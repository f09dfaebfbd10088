"""BM25 as in Anserini, on bm25s: an index on disk, memory-mapped; documents come back from disk too.

The indexed text of a document is its title and its text. Terms are made as Anserini's default analyser makes them
(`retrievers.analysis` says where not), and k1 = 0.9, b = 0.4 are Anserini's defaults. One difference is left: Lucene
keeps the length of a document of more than 40 terms to four significant bits, and here lengths are exact. Scores differ
by 0.4 % on average for that, and near ties fall otherwise.

>>> bm25 = BM25.build([Document("1", "a fish"), Document("2", "two birds")], folder)
>>> bm25.retrieve([Query("q", "which birds?")], cutoff=10)[0][0].document.doc_id
'2'
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from rerank import config
from rerank.datasets import Dataset
from rerank.errors import FileError, InputError
from rerank.pipeline import NO_EXCLUSIONS, Stage, check_cutoff
from rerank.registry import did_you_mean
from rerank.types import Document, Query, Ranking
from retrievers.analysis import EXAMPLE, Analyser
from retrievers.documents import DocumentStore, DocumentWriter
from retrievers.exclusions import excluded
from retrievers.feedback import Feedback, expanded
from retrievers.index import Manifest, cached_index, check_corpus, new_folder, read_manifest, write_manifest
from retrievers.postings import Floats, Postings, best
from retrievers.progress import tracked, waiting
from retrievers.rankings import Rankings
from retrievers.terms import Terms

__all__ = ["BM25", "METHODS", "Options", "check_content", "check_search", "manifest_of", "write_postings"]

METHODS = ("lucene", "robertson", "atire")
"""Variants of the formula in which a document without any term of the query scores 0 (Kamphuis et al., 2020)."""

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the scores.

    Args:
        k1: how slowly repetitions of a term saturate, at least 0.
        b: how much long documents are held back, from 0 to 1.
        method: one of `METHODS`.
        stop_words: "english" (Lucene's 33) or "none".
        stemmer: "porter", "english" (Porter's second) or "none".

    Raises:
        InputError: when a value is outside its range.
    """

    k1: float = 0.9
    b: float = 0.4
    method: str = "lucene"
    stop_words: str = "english"
    stemmer: str = "porter"

    def __post_init__(self) -> None:
        if not _is_number(self.k1) or not 0 <= self.k1 < math.inf:
            raise InputError(f"k1 is {self.k1!r}; it must be a number of at least 0")
        if not _is_number(self.b) or not 0 <= self.b <= 1:
            raise InputError(f"b is {self.b!r}; it must be a number from 0 to 1")
        if self.method not in METHODS:
            raise InputError(f"method is {self.method!r}{did_you_mean(str(self.method), METHODS)}")
        self.analyser()

    def analyser(self) -> Analyser:
        """The analyser that these options describe."""
        return Analyser(self.stop_words, self.stemmer)


class BM25(Stage):
    """Retrieves by BM25 from an index on disk; `build` makes one, `open` opens it.

    Scores are float32 sums as Python floats. Equal scores keep the order of the collection. Documents that score 0,
    which is to say that share no term with the query, are not retrieved. The query's instruction is not read.
    """

    name = "bm25"

    def __init__(
        self,
        folder: str | Path,
        *,
        mmap: bool = True,
        query_side: bool = False,
        feedback: str = "none",
        feedback_documents: int = 10,
        feedback_terms: int = 10,
        original_weight: float = 0.5,
        beta: float = 0.75,
    ) -> None:
        """Open an index; see `open`."""
        import bm25s

        self.folder, self.query_side = Path(folder), query_side
        self.feedback = Feedback(feedback, feedback_documents, feedback_terms, original_weight, beta)
        check_search(query_side, self.feedback)
        self.manifest = read_manifest(self.folder, self.name, FORMAT)
        self.options = config.build(Options, self.manifest.options, f"{self.folder}: options")
        self._analyser = _checked_analyser(self.options, self.manifest, self.folder)
        self._lock = threading.Lock()  # a stemmer must not be used by two threads at once
        self._index = bm25s.BM25.load(self.folder, mmap=mmap, show_progress=False)
        stored = self._index.scores
        self._postings = Postings(stored["indptr"], stored["indices"], stored["data"], len(self))
        self._mean_length = _mean_length(self.options, self.manifest, self.folder) if query_side else 0.0
        self.documents = DocumentStore(self.folder)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        mmap: bool = True,
        query_side: bool = False,
        feedback: str = "none",
        feedback_documents: int = 10,
        feedback_terms: int = 10,
        original_weight: float = 0.5,
        beta: float = 0.75,
    ) -> Self:
        """Open an index that `build` made.

        Args:
            folder: where it lies.
            mmap: False reads the postings into memory; documents are read from disk in either case.
            query_side: weigh the terms of a query by BM25 too, as if it were a document, instead of by how often they
                occur in it: what BRIGHT's published BM25 does (https://arxiv.org/abs/2407.12883), by gensim's
                LuceneBM25Model. Long queries of many common words gain. The index is the same.
            feedback: "rm3" or "rocchio" expand a query by the documents that it finds, and search again. Their terms
                are made of the documents as they are stored.
            feedback_documents, feedback_terms, original_weight, beta: see `retrievers.feedback.Feedback`.

        Raises:
            FileError: when there is no index, or it is torn, of another kind or from an incompatible version.
            InputError: when `query_side` meets an index of another method than "lucene", or feedback, or an option is
                wrong.
        """
        more: dict[str, Any] = {"feedback_documents": feedback_documents, "feedback_terms": feedback_terms}
        more |= {"original_weight": original_weight, "beta": beta}
        return cls(folder, mmap=mmap, query_side=query_side, feedback=feedback, **more)

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        folder: str | Path,
        *,
        k1: float = 0.9,
        b: float = 0.4,
        method: str = "lucene",
        stop_words: str = "english",
        stemmer: str = "porter",
        source: str = "",
        total: int | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Index documents and open the index.

        They are read once, one at a time, and written to the index; memory holds their terms (4 bytes each) and ids.

        Args:
            documents: with distinct ids; texts may be empty.
            folder: where the index will lie, whole or not at all; must not exist, or be empty.
            k1, b, method, stop_words, stemmer: see `Options`.
            source: where the documents come from, for the manifest.
            total: how many there are, to show the time left.
            progress: show a bar on standard error; None means when that is a terminal.

        Raises:
            InputError: when there are no documents, an id occurs twice, or an option is wrong.
            FileError: when the folder is taken or cannot be written.
        """
        options = Options(k1, b, method, stop_words, stemmer)
        with new_folder(Path(folder)) as part:
            terms = Terms(options.analyser())
            with DocumentWriter(part) as writer:
                for document in tracked(documents, "indexing", total=total, show=progress):
                    writer.add(document)
                    terms.add(document.full_text)
            check_content(len(writer), terms, source)
            with waiting(f"scoring {len(terms.vocabulary):,} terms", show=progress):
                write_postings(terms, options, part)
            write_manifest(part, manifest_of(cls.name, options, writer, terms, source))
        return cls.open(folder)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        *,
        index: str | Path | None = None,
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
        progress: bool | None = None,
    ) -> Self:
        """The index of a dataset: opened where it lies already, built first where it does not.

        Args:
            dataset: what to index.
            index: a folder; None means one in the cache (`RERANK_CACHE`, or ~/.cache/rerank-toolkit), which changes
                with the corpus and the options.
            k1, b, method, stop_words, stemmer: see `Options`.
            query_side, feedback, feedback_documents, feedback_terms, original_weight, beta: how it is searched, see
                `open`: the same index serves all.
            progress: show a bar on standard error while building; None means when that is a terminal.

        Raises:
            FileError: when the index at `index` cannot be read, or was built with other options, or of another corpus.
            InputError: when an option is wrong, or `query_side` meets another method than "lucene", or feedback.
        """
        options = Options(k1, b, method, stop_words, stemmer)
        search: dict[str, Any] = {"feedback": feedback, "feedback_documents": feedback_documents}
        search |= {"feedback_terms": feedback_terms, "original_weight": original_weight, "beta": beta}
        check_search(query_side, Feedback(*search.values()))
        if query_side:
            _check_query_side(options)
        given = dataclasses.asdict(options)
        folder = Path(index) if index is not None else cached_index(cls.name, FORMAT, dataset, given)
        if not folder.exists():
            cls._built_of(dataset, folder, given, progress)
        opened = cls.open(folder, query_side=query_side, **search)
        check_corpus(opened.manifest, dataset, folder)
        if opened.options != options:
            raise FileError(f"{folder} was built with {opened.options}, not with {options}; name another folder")
        return opened

    def retrieve(
        self, queries: Sequence[Query], cutoff: int, *, exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS
    ) -> list[Ranking]:
        """The best `cutoff` documents of each query; see `rerank.pipeline.Retriever`."""
        check_cutoff(self.name, cutoff)
        rankings, made = Rankings(self.documents, cutoff), []
        for query in queries:
            without = excluded(exclude, query.query_id)
            made.append(rankings.of(query, *best(self._scores(query.text), cutoff + len(without)), without))
        return made

    def __len__(self) -> int:
        return self.manifest.documents

    def __repr__(self) -> str:
        return f"<BM25 of {len(self):,} documents in {self.folder}>"

    @classmethod
    def _built_of(cls, dataset: Dataset, folder: Path, options: dict[str, Any], progress: bool | None) -> None:
        source, total = dataset.name, dataset.count
        try:
            cls.build(dataset.documents(), folder, **options, source=source, total=total, progress=progress)
        except FileError:
            if not folder.exists():
                raise  # otherwise another process was faster

    def _scores(self, text: str) -> Floats:
        terms = self._terms(text)
        numbers = self._index.get_tokens_ids(terms)
        scores: Floats = self._weighted(numbers) if self.query_side else self._index.get_scores_from_ids(numbers)
        if not self.feedback or not scores.any():
            return scores
        weights = self._expanded(terms, scores).items()
        return self._postings.scores((self._index.vocab_dict[term], weight) for term, weight in weights)

    def weights(self, text: str) -> dict[str, float]:
        """What the terms of a query weigh after feedback, the heaviest first: what the second search is by.

        Raises:
            InputError: when the index was opened without feedback.
        """
        if not self.feedback:
            raise InputError("this index was opened without feedback; say feedback='rm3' or feedback='rocchio'")
        terms = self._terms(text)
        return self._expanded(terms, self._index.get_scores_from_ids(self._index.get_tokens_ids(terms)))

    def _expanded(self, terms: Sequence[str], scores: Floats) -> dict[str, float]:
        indices, values = best(scores, self.feedback.documents)
        found = [Counter(self._terms(self.documents[index].full_text)) for index in indices]
        weights = expanded(self.feedback, terms, list(zip(found, values, strict=True)), self._held_by, len(self))
        return {term: weight for term, weight in weights.items() if term in self._index.vocab_dict}

    def _held_by(self, term: str) -> int:
        return self._postings.held_by(self._index.vocab_dict[term])

    def _terms(self, text: str) -> list[str]:
        with self._lock:
            return self._analyser(text)

    def _weighted(self, numbers: Sequence[int]) -> Floats:
        """Scores with the query as a document: words that no document holds are no part of its length, as in gensim."""
        norm = self.options.k1 * (1 - self.options.b + self.options.b * len(numbers) / self._mean_length)
        weights = {term: self._idf(term) * times / (times + norm) for term, times in Counter(numbers).items()}
        return self._postings.scores(weights.items())

    def _idf(self, term: int) -> float:
        documents = self._postings.held_by(term)
        return math.log1p((len(self) - documents + 0.5) / (documents + 0.5))


def write_postings(terms: Terms, options: Options, folder: Path) -> None:
    """Score the terms of all documents."""
    import bm25s

    index = bm25s.BM25(k1=options.k1, b=options.b, method=options.method, csc_backend="scipy")
    index.index((terms.rows, terms.vocabulary), create_empty_token=False, show_progress=False)
    index.save(folder, show_progress=False)


def manifest_of(kind: str, options: Options, writer: DocumentWriter, terms: Terms, source: str) -> Manifest:
    """What was built."""
    return Manifest(
        kind=kind,
        format=FORMAT,
        options=dataclasses.asdict(options),
        documents=len(writer),
        fingerprint=writer.fingerprint,
        source=source,
        versions={name: version(name) for name in ("rerank-toolkit", "bm25s", "PyStemmer", "regex")},
        notes={
            "terms": len(terms.vocabulary),
            "mean_length": sum(map(len, terms.rows)) / len(terms.rows),
            "example": options.analyser()(EXAMPLE),
        },
    )


def _checked_analyser(options: Options, manifest: Manifest, folder: Path) -> Analyser:
    analyser = options.analyser()
    if analyser(EXAMPLE) != manifest.notes.get("example"):
        written = ", ".join(f"{name} {number}" for name, number in manifest.versions.items())
        raise FileError(f"{folder} was written with {written}, which analysed text differently; build the index again")
    return analyser


def check_search(query_side: bool, feedback: Feedback) -> None:
    """Refuse what weighs a query twice.

    Raises:
        InputError: when both are asked for.
    """
    if query_side and feedback:
        raise InputError(f"query_side and feedback={feedback.method!r} weigh a query each in its own way; choose one")


def _check_query_side(options: Options) -> None:
    if options.method != "lucene":
        raise InputError(f"query_side is defined for method 'lucene', and the index's is {options.method!r}")


def _mean_length(options: Options, manifest: Manifest, folder: Path) -> float:
    """Terms of a document, on average.

    Raises:
        InputError, FileError: when queries cannot be weighed by it.
    """
    _check_query_side(options)
    if "mean_length" not in manifest.notes:
        raise FileError(
            f"{folder} was written before indexes said how long documents are; remove it and build it again"
        )
    return float(manifest.notes["mean_length"])


def check_content(documents: int, terms: Terms, source: str) -> None:
    """Refuse an index of nothing.

    Raises:
        InputError: when there is no document, or no word in any.
    """
    if not documents:
        raise InputError(f"there are no documents to index{f' in {source}' if source else ''}")
    if not terms.vocabulary:
        raise InputError(f"none of the {documents:,} documents to index holds a word")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
