"""Learned sparse retrieval: a masked language model weighs the terms of the vocabulary, and postings are searched.

>>> splade = Splade.build(documents, folder, model="naver/splade-v3")
>>> splade.retrieve([Query("q", "which birds?")], cutoff=10)[0][0].document.doc_id
'2'
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rerank import checkpoints, config
from rerank.datasets import Dataset
from rerank.errors import FileError, InputError
from rerank.pipeline import NO_EXCLUSIONS, Stage, check_cutoff
from rerank.registry import unknown
from rerank.types import Document, Query, Ranking
from retrievers import approximate_terms
from retrievers.approximate_terms import ApproximateTerms
from retrievers.documents import DocumentStore, DocumentWriter
from retrievers.exclusions import excluded
from retrievers.impacts import Impacts, write_impacts
from retrievers.index import Manifest, cached_index, check_corpus, growing_folder, read_manifest, write_manifest
from retrievers.java import java
from retrievers.lucene_index import WRITER, check_threads
from retrievers.postings import Postings, best, join, load_rows, save_rows
from retrievers.progress import tracked, waiting
from retrievers.rankings import Rankings
from retrievers.shards import SHARD, Shards, written

if TYPE_CHECKING:
    from retrievers.term_encoding import QueryTokens, TermEncoder

__all__ = ["POOLINGS", "QUERIES", "SEARCHES", "Options", "Splade"]

FORMAT = 1

QUERIES = ("model", "binary", "idf")
"""How a query is weighed: by the model, 1 for each of its tokens, or by how few documents hold the token."""

POOLINGS = ("max", "sum")

SEARCHES = ("exact", "lucene", "seismic")
"""How postings are searched: all of them, in float32; Lucene's, weights in hundredths (the `lucene` extra); or a part
of them, which Seismic chooses (the `seismic` extra)."""

OF_SEARCH = ("search", "postings", "query_cut", "heap_factor")
"""Options that decide how weights are searched."""

IDF = "idf.json"
"""In a checkpoint: token -> its weight in a query."""

Weighed: TypeAlias = Sequence[tuple[int, float]]
"""(term, weight), the terms rising."""


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the weights of documents.

    Args:
        model: a name, a hub id or a folder: sentence-transformers' `SparseEncoder`, or a masked language model.
        pooling: "max" or "sum" (SPLADE's first version); "" for what the model says.
        max_tokens: the most tokens of a document; 0 for as many as the model says.
        top_terms: a document keeps so many weights, the greatest; 0 for all. What is left out is counted in the
            manifest.
        query_prompt, document_prompt: put in front of texts; None for what the model says.
        search: "exact"; "lucene", by impacts: weights of documents and queries are rounded to hundredths; or "seismic",
            which looks at a part of the documents.
        postings: seismic: documents of a term that are kept, on average, those in which it weighs most.
        query_cut: seismic: terms of a query whose documents are looked at, those that weigh most.
        heap_factor: seismic: above 0, at most 1; less looks at more blocks of documents.

    Raises:
        InputError: when a value is outside its range.
    """

    model: str
    pooling: str = ""
    max_tokens: int = 0
    top_terms: int = 0
    query_prompt: str | None = None
    document_prompt: str | None = None
    search: str = "exact"
    postings: int = 3500
    query_cut: int = 30
    heap_factor: float = 0.8

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise unknown("search", self.search, SEARCHES)
        if self.postings < 1 or self.query_cut < 1:
            raise InputError(f"postings={self.postings} and query_cut={self.query_cut}; they must be at least 1")
        if not 0 < self.heap_factor <= 1:
            raise InputError(f"heap_factor={self.heap_factor}; it must be above 0 and at most 1")
        if self.pooling not in ("", *POOLINGS):
            raise unknown("pooling", self.pooling, POOLINGS)
        for name in ("max_tokens", "top_terms"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)}; it must be at least 0")


class Splade(Stage):
    """Retrieves by weights of terms from an index on disk; `build` makes one, `open` opens it.

    SPLADE (Formal et al., 2021, https://arxiv.org/abs/2107.05720). Scores are float32 sums of products, term by term;
    by Lucene, of products of hundredths. No document is left out but by Seismic. Equal scores keep the order of the
    collection. Documents that share no term with the query are not retrieved. A query's instruction is not read.
    """

    name = "splade"

    def __init__(
        self,
        folder: str | Path,
        *,
        queries: str = "model",
        exact: bool = False,
        device: str | None = None,
        threads: int = 0,
    ) -> None:
        """Open an index; see `open`."""
        _check_queries(queries)
        check_threads(threads)
        self.folder, self.queries, self.device = Path(folder), queries, device
        self.manifest = read_manifest(self.folder, self.name, FORMAT)
        self.options = config.build(Options, self.manifest.options, f"{self.folder}: options")
        self.documents = DocumentStore(self.folder)
        self.postings = Postings.open(self.folder, len(self))
        self._impacts = Impacts(self.folder, threads) if self.options.search == "lucene" and not exact else None
        self._approximate = (
            ApproximateTerms(self.folder, self.postings, self.options)
            if self.options.search == "seismic" and not exact
            else None
        )

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        queries: str = "model",
        exact: bool = False,
        device: str | None = None,
        threads: int = 0,
    ) -> Splade:
        """Open an index that `build` made; what weighs queries is loaded when the first is asked.

        Args:
            folder: where it lies.
            queries: how the terms of a query are weighed: "model" as the checkpoint says: by the model that weighed the
                documents, by another one, or by a weight for each token; "binary" 1 for each of its tokens (SPLADE-doc,
                https://arxiv.org/abs/2109.10086); "idf" by the checkpoint's weights of tokens or its `idf.json`, or
                else by ln(1 + (N - n + 0.5) / (n + 0.5)), n of the N documents holding the term. The last two need no
                model, and suit models that were trained for them.
            exact: search the postings, although the index has Seismic's or Lucene's beside them.
            device: of the model.
            threads: that Lucene searches with; 0 for as many as there are processors.

        Raises:
            FileError: when there is no index, or it is torn, of another kind or from an incompatible version.
            UnknownName: when `queries` is none of these.
            MissingExtra: when it is searched by Lucene, which is not installed.
        """
        return cls(folder, queries=queries, exact=exact, device=device, threads=threads)

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        folder: str | Path,
        *,
        model: str,
        pooling: str = "",
        max_tokens: int = 0,
        top_terms: int = 0,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        search: str = "exact",
        postings: int = 3500,
        query_cut: int = 30,
        heap_factor: float = 0.8,
        device: str | None = None,
        source: str = "",
        total: int | None = None,
        progress: bool | None = None,
    ) -> Splade:
        """Weigh the terms of documents and open the index.

        What was weighed is on the disk shard by shard: the same call after an interruption goes on from there.

        Args:
            documents: with distinct ids; texts may be empty.
            folder: where the index will lie, whole or not at all; must not exist, or be empty.
            model, pooling, max_tokens, top_terms, query_prompt, document_prompt, search, postings, query_cut,
                heap_factor: see `Options`.
            device: of the model.
            source: where the documents come from, for the manifest.
            total: how many there are, to show the time left.
            progress: show a bar on standard error; None means when that is a terminal.

        Raises:
            InputError: when there are no documents, an id occurs twice, or an option is wrong.
            FileError: when the folder is taken or cannot be written.
            CheckpointError: when the model cannot be had, or is no masked language model.
        """
        of_search = (search, postings, query_cut, heap_factor)
        options = Options(model, pooling, max_tokens, top_terms, query_prompt, document_prompt, *of_search)
        approximate_terms.check(options)
        if search == "lucene":
            java(WRITER)  # that it is there shows now, and not after hours of encoding
        encoder, key = _encoder(options, device), _key(options)
        made_from = {"format": FORMAT, "encoder": key, **dataclasses.asdict(options)}
        with growing_folder(Path(folder), made_from) as part:
            shards = Shards(part, ".npz")
            with DocumentWriter(part) as writer:
                shown = tracked(documents, "encoding", total=total, show=progress)
                for path, rows in encoder.documents_in(shards.missing(written(shown, writer), SHARD)):
                    with shards.writing(path) as place:
                        save_rows(place, rows)
            if not len(writer):
                raise InputError(f"there are no documents to index{f' in {source}' if source else ''}")
            with waiting(f"sorting the terms of {len(writer):,} documents", show=progress):
                notes = {"encoder": key, **join(shards.paths, part, encoder.terms)}
                approximate_terms.build(shards.paths, part, options, encoder.terms)
                if search == "lucene":
                    write_impacts(map(load_rows, shards.paths), part)
            shards.remove()
            write_manifest(part, _manifest(options, writer, notes, source))
        return cls.open(folder, device=device)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        *,
        model: str,
        index: str | Path | None = None,
        pooling: str = "",
        max_tokens: int = 0,
        top_terms: int = 0,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        search: str = "exact",
        postings: int = 3500,
        query_cut: int = 30,
        heap_factor: float = 0.8,
        queries: str = "model",
        exact: bool = False,
        threads: int = 0,
        device: str | None = None,
        progress: bool | None = None,
    ) -> Splade:
        """The index of a dataset: opened where it lies already, built first where it does not.

        Args:
            dataset: what to index.
            model: see `Options`, as for the others that it describes.
            index: a folder; None means one in the cache, which changes with the corpus and the options.
            queries, exact, threads: how it is searched, see `open`: the same index serves all.
            device, progress: see `build`.

        Raises:
            FileError: when the index at `index` cannot be read, or was built with other options, or of another corpus.
        """
        of_search = (search, postings, query_cut, heap_factor)
        options = Options(model, pooling, max_tokens, top_terms, query_prompt, document_prompt, *of_search)
        _check_queries(queries)
        check_threads(threads)
        given = dataclasses.asdict(options)
        folder = Path(index) if index is not None else cached_index(cls.name, FORMAT, dataset, given)
        if not folder.exists():
            more: dict[str, Any] = {"device": device, "progress": progress}
            cls.build(dataset.documents(), folder, **given, **more, source=dataset.name, total=dataset.count)
        opened = cls.open(folder, queries=queries, exact=exact, device=device, threads=threads)
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
        found = self._search(self.weighed([query.text for query in queries]), counts)
        return [
            rankings.of(query, indices, scores, left_out)
            for query, (indices, scores), left_out in zip(queries, found, without, strict=True)
        ]

    def _search(self, queries: Sequence[Weighed], counts: Sequence[int]) -> Iterable[tuple[list[int], list[float]]]:
        if self._impacts is not None:
            return self._impacts.search(queries, counts)
        if self._approximate is not None:
            return self._approximate.search(queries, counts)
        return (best(self.postings.scores(terms), count) for terms, count in zip(queries, counts, strict=True))

    def weighed(self, texts: Sequence[str]) -> list[Weighed]:
        """(term, weight) of each query: what it is searched by.

        Raises:
            FileError: when the model is not the one that weighed the documents.
            InputError: when a text cannot be read.
        """
        if not texts:
            return []
        if self.looked_up:
            tokens, weight = self._looked_up
            known = len(self.postings.starts) - 1  # a tokenizer may have more tokens than the model weighs
            found = ([(term, weight(term)) for term in tokens.terms(text) if term < known] for text in texts)
            return [[(term, worth) for term, worth in terms if worth] for terms in found]
        rows = self.encoder.rows(texts, queries=True)
        pairs = list(zip(rows.terms.tolist(), rows.weights.tolist(), strict=True))
        ends = np.cumsum([0, *rows.counts]).tolist()
        return [pairs[start:stop] for start, stop in itertools.pairwise(ends)]

    @cached_property
    def looked_up(self) -> bool:
        """Whether the terms of a query are its tokens, and no model reads it: the user says so, or the checkpoint."""
        from retrievers.term_encoding import static_weights

        return self.queries != "model" or static_weights(checkpoints.fetch(self.options.model)) is not None

    @cached_property
    def encoder(self) -> TermEncoder:
        """Of queries.

        Raises:
            FileError: when the model is not the one that weighed the documents.
        """
        self._check_model()
        return _encoder(self.options, self.device, "query")

    @cached_property
    def _looked_up(self) -> tuple[QueryTokens, Callable[[int], float]]:
        """What gives the tokens of a query, and what weighs one."""
        from retrievers.term_encoding import QueryTokens, static_weights

        self._check_model()
        folder = checkpoints.fetch(self.options.model)
        tokens = QueryTokens(folder, self.options.query_prompt)
        if self.queries == "binary":
            return tokens, lambda _: 1.0
        if (static := static_weights(folder)) is not None:
            return tokens, lambda term: float(static[term])
        if (folder / IDF).is_file():
            given = _given_idf(folder / IDF, tokens.texts.tokenizer)
            return tokens, lambda term: given.get(term, 0.0)
        return tokens, self._idf

    def _idf(self, term: int) -> float:
        held = self.postings.held_by(term)
        return math.log1p((len(self) - held + 0.5) / (held + 0.5))

    def _check_model(self) -> None:
        here, there = _key(self.options), self.manifest.notes.get("encoder")
        if here != there:
            raise FileError(
                f"{self.folder} was made by {there}, and {self.options.model} is {here} here: other weights, or "
                "another version; build the index again"
            )

    def __len__(self) -> int:
        return self.manifest.documents

    def __repr__(self) -> str:
        return f"<Splade {self.options.model} of {len(self):,} documents in {self.folder}>"


def _check_queries(queries: str) -> None:
    if queries not in QUERIES:
        raise unknown("way to weigh queries", queries, QUERIES)


def _given_idf(path: Path, tokenizer: Any) -> dict[int, float]:
    try:
        return {
            tokenizer.convert_tokens_to_ids(token): float(worth)
            for token, worth in json.loads(path.read_text("utf-8")).items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise FileError(f"{path} does not say token by token what it weighs: {error}") from error


def _asked(options: Options) -> dict[str, Any]:
    """What decides the weights, the model aside."""
    return {key: value for key, value in dataclasses.asdict(options).items() if key not in ("model", *OF_SEARCH)}


def _key(options: Options) -> str:
    from retrievers.term_encoding import key_of

    return key_of(checkpoints.fetch(options.model), _asked(options))


def _encoder(options: Options, device: str | None, side: str = "document") -> TermEncoder:
    from retrievers.term_encoding import TermEncoder

    return TermEncoder(checkpoints.fetch(options.model), **_asked(options), device=device, side=side)


def _manifest(options: Options, writer: DocumentWriter, notes: Mapping[str, Any], source: str) -> Manifest:
    return Manifest(
        kind=Splade.name,
        format=FORMAT,
        options=dataclasses.asdict(options),
        documents=len(writer),
        fingerprint=writer.fingerprint,
        source=source,
        versions={name: version(name) for name in _libraries(options)},
        notes=notes,
    )


def _libraries(options: Options) -> tuple[str, ...]:
    seismic = () if options.search == "exact" else ("pyseismic-lsr",)
    return ("rerank-toolkit", "torch", "transformers", *seismic)
