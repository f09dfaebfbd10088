"""A test collection: documents, queries, judgments and the measures it is judged by."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Protocol

from rerank.datasets import catalogue
from rerank.datasets.beir import BeirFolder
from rerank.datasets.bright import Bright, is_bright
from rerank.datasets.registered import Registered, nearest_ids
from rerank.errors import FileError, InputError, RerankError, UnknownName
from rerank.registry import did_you_mean
from rerank.types import Candidate, Document, Qrels, Query, Ranking, Scores

__all__ = ["Dataset", "Source"]


class Source(Protocol):
    """Where the records of a collection come from.

    One may also have `excluded()`: query_id -> ids of documents that must not be retrieved for it.
    """

    def documents(self) -> Iterator[Document]:
        """All of them, one at a time."""

    def corpus_key(self) -> str:
        """The same for the same documents, however the queries are split; found without reading them."""

    def find(self, doc_ids: Collection[str]) -> dict[str, Document]:
        """Those of these documents that there are."""

    def queries(self) -> list[Query]:
        """All of them, judged or not."""

    def qrels(self) -> Qrels:
        """The judgments; empty when there are none."""


@dataclass(frozen=True)
class Dataset:
    """A test collection. Nothing is read before it is asked for; queries and judgments are then kept, documents not.

    Args:
        name: as it was asked for (of a folder, the folder's name), and the split where one was named.
        source: where the records come from.
        measures: the official ones, by ir-measures name.
        count: how many documents there are, where that is known without reading them.
        own_document: whether the benchmark keeps every query from finding the document that has its id.
    """

    name: str
    source: Source = field(repr=False)
    measures: tuple[str, ...] = ("nDCG@10",)
    count: int | None = None
    own_document: bool = False

    @classmethod
    def load(cls, name: str | Path, split: str | None = None) -> Dataset:
        """The dataset that a name stands for: one of the catalogue, else a folder, else an ir_datasets id.

        A folder that is called as a dataset of the catalogue is is reached as `./name`.

        Args:
            name: "noveleval", "path/to/folder", "beir/scifact/test" …
            split: which judgments; of a folder "test" when nothing is said, else the only ones it has.

        Raises:
            UnknownName: when there is no such dataset or split.
            FileError: when there is no such folder, or it is no BEIR folder.
            InputError: when a folder has several splits, none of them "test", and none is named.
        """
        if isinstance(name, str) and name in catalogue.known():
            return cls._catalogued(name, split)
        folder = Path(name).expanduser()
        if folder.is_dir():
            return cls(_titled(folder.resolve().name, split), _in_folder(folder, split))
        if isinstance(name, Path) or name.startswith((".", "/", "~")):
            raise FileError(f"there is no folder {name}; a dataset is a folder, a name or an ir_datasets id")
        registered = Registered.load(name, split)
        if registered is None:
            near = did_you_mean(name, [*catalogue.known(), *nearest_ids(name)])
            said = near if near.startswith("; did") else "; 'rerank datasets' lists those that have a name"
            raise UnknownName(f"no dataset is called {name!r}{said}")
        return cls(registered.name, registered, count=registered.count)

    @classmethod
    def _catalogued(cls, name: str, split: str | None) -> Dataset:
        entry = catalogue.read(name)
        source = _catalogued(name, entry, split)
        counted = entry.counts.documents if not entry.bright or split is None else None
        return cls(_titled(name, split), source, entry.measures, counted, entry.own_document)

    @cached_property
    def qrels(self) -> Qrels:
        """query_id -> doc_id -> relevance; empty when the dataset has no judgments."""
        return self.source.qrels()

    @cached_property
    def all_queries(self) -> list[Query]:
        """Every query, judged or not."""
        return self.source.queries()

    @cached_property
    def queries(self) -> list[Query]:
        """The queries that are judged, in the dataset's order; all of them when there are no judgments.

        Raises:
            InputError: when there are judgments of a query that the dataset lacks.
        """
        if not self.qrels:
            return self.all_queries
        self._check_queries(self.qrels, "its judgments name")
        return [query for query in self.all_queries if query.query_id in self.qrels]

    @cached_property
    def excluded(self) -> Mapping[str, frozenset[str]]:
        """query_id -> ids of documents that must not be retrieved for it: what `retrieve(…, exclude=…)` wants.

        BRIGHT names them; in ArguAna and Quora queries are documents, and none is to find itself.
        """
        if self.own_document:
            return {query.query_id: frozenset({query.query_id}) for query in self.all_queries}
        named: Mapping[str, frozenset[str]] = getattr(self.source, "excluded", dict)()
        return {query_id: doc_ids for query_id, doc_ids in named.items() if doc_ids}

    def documents(self) -> Iterator[Document]:
        """All documents, one at a time."""
        return self.source.documents()

    @property
    def corpus_key(self) -> str:
        """The same for the same documents, so that an index of them is found again; costs no reading of them."""
        return self.source.corpus_key()

    def has_corpus_of(self, name: str) -> bool:
        """Whether its documents are those of the dataset of this name, of which an index says that it was built.

        A folder is known by its name alone, the split behind it.
        """
        if name == self.name:
            return True
        try:
            return Dataset.load(name).corpus_key == self.corpus_key
        except RerankError:
            return name.partition("/")[0] == self.name.partition("/")[0]

    def look_up(self, doc_ids: Collection[str]) -> dict[str, Document]:
        """doc_id -> document, for all of these; of a folder, in one pass over its corpus.

        Raises:
            InputError: when the dataset lacks one of them.
        """
        wanted = frozenset(doc_ids)
        found = self.source.find(wanted) if wanted else {}
        missing = wanted - found.keys()
        if missing:
            raise InputError(
                f"dataset {self.name!r} lacks {_some('document', missing)} of {len(wanted):,} asked for; "
                "give the dataset that the run was retrieved from"
            )
        return found

    def missing_judged(self) -> list[str]:
        """The ids of judged documents that the dataset lacks, sorted; of a folder, by one pass over its corpus.

        Raises:
            InputError: when it lacks all of them: the judgments are of another collection.
        """
        judged = {doc_id for documents in self.qrels.values() for doc_id in documents}
        missing = sorted(judged - self.source.find(judged).keys())
        if missing and len(missing) == len(judged):
            more = f" and {len(judged) - 1:,} more are" if len(judged) > 1 else " is"
            raise InputError(
                f"the judgments of dataset {self.name!r} name no document of it: {missing[0]!r}{more} not there; "
                "are they of this collection?"
            )
        return missing

    def rankings(self, scores: Scores, cutoff: int | None = None) -> list[Ranking]:
        """A run joined to its texts: a ranking for every query of the run, in the run's order.

        Args:
            scores: as `rerank.io.read_run` gives them.
            cutoff: how many candidates of each query to take, at least 1; all of them when None.

        Raises:
            InputError: when the run is empty or not best first, a query has no candidate, the dataset lacks a query or
                a document of the run, or the cutoff is below 1.
        """
        if cutoff is not None and cutoff < 1:
            raise InputError(f"a cutoff of {cutoff} takes no candidate; choose at least 1")
        self._check_queries(scores, "the run names")
        best = {query_id: dict(islice(scored.items(), cutoff)) for query_id, scored in scores.items()}
        _check_candidates(best)
        documents = self.look_up({doc_id for scored in best.values() for doc_id in scored})
        queries = {query.query_id: query for query in self.all_queries}
        return [_joined(queries[query_id], scored, documents) for query_id, scored in best.items()]

    def _check_queries(self, query_ids: Collection[str], where: str) -> None:
        missing = set(query_ids) - {query.query_id for query in self.all_queries}
        if missing:
            raise InputError(
                f"dataset {self.name!r} lacks {_some('query', missing)} of {len(query_ids):,} that {where}; "
                "give the dataset that they belong to"
            )


def _catalogued(name: str, entry: catalogue.Entry, split: str | None) -> Source:
    """Where the records of a dataset of the catalogue come from."""
    if entry.folder:
        return BeirFolder(catalogue.folder_of(entry), split)
    if entry.bright:
        return Bright(entry.bright, split)
    if entry.obtain:
        return BeirFolder(catalogue.place_of(name, entry), split)
    registered = Registered.load(entry.ir_datasets, split or entry.split or None)
    if registered is None:
        raise UnknownName(f"ir_datasets knows no split {split or entry.split!r} of {entry.ir_datasets!r} ({name!r})")
    return registered


def _in_folder(folder: Path, split: str | None) -> Source:
    """A BEIR folder, or BRIGHT's, whose split names the subset and may say more behind it: "biology/long"."""
    if not is_bright(folder):
        return BeirFolder(folder, split)
    if split is None:
        raise InputError(f"{folder} holds all of BRIGHT; name the subset as its split, such as 'biology'")
    subset, _, others = split.partition("/")
    return Bright(subset, others or None, folder=folder)


def _titled(name: str, split: str | None) -> str:
    return name if split is None else f"{name}/{split}"


def _joined(query: Query, scored: dict[str, float], documents: dict[str, Document]) -> Ranking:
    return Ranking(query, tuple(Candidate(documents[doc_id], score) for doc_id, score in scored.items()))


def _check_candidates(scores: Scores) -> None:
    if not scores:
        raise InputError("the run holds no query; there is nothing to rank")
    for query_id, scored in scores.items():
        if not scored:
            raise InputError(f"query {query_id!r} has no candidate in the run; leave the query out")


def _some(kind: str, missing: Collection[str]) -> str:
    """One of them by name, the others by number."""
    others = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
    return f"{kind} {min(missing)!r}{others}"
