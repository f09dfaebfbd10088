"""A collection that ir_datasets knows, downloaded and kept by it (MacAvaney et al., 2021)."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from rerank.errors import FileError, InputError
from rerank.types import Document, Qrels, Query

__all__ = ["Registered", "nearest_ids"]


class Registered:
    """A dataset of ir_datasets.

    Args:
        name: its id, such as "beir/scifact/test".
        dataset: what ir_datasets has under it.
    """

    def __init__(self, name: str, dataset: Any) -> None:
        self.name, self._dataset = name, dataset

    @classmethod
    def load(cls, name: str, split: str | None = None) -> Registered | None:
        """The dataset under `name`, or under `name/split`; None when ir_datasets knows no such id."""
        import ir_datasets  # takes half a second

        full_name = f"{name}/{split}" if split else name
        try:
            return cls(full_name, ir_datasets.load(full_name))
        except KeyError:
            return None

    @property
    def count(self) -> int | None:
        """How many documents there are, as far as ir_datasets knows it without a download."""
        count: int | None = self._dataset.docs_metadata().get("count") if self._dataset.has_docs() else None
        return count

    def documents(self) -> Iterator[Document]:
        """All documents, one at a time."""
        self._check("docs", "documents")
        with self._download():
            for doc in self._dataset.docs_iter():
                yield _document(doc)

    def corpus_key(self) -> str:
        """The id under which ir_datasets keeps the documents that several datasets share."""
        import ir_datasets

        return f"ir_datasets {ir_datasets.docs_parent_id(self.name)}"

    def find(self, doc_ids: Collection[str]) -> dict[str, Document]:
        """Those of these documents that there are, from ir_datasets' store (which is built at the first call)."""
        self._check("docs", "documents")
        with self._download():
            found = self._dataset.docs_store().get_many(doc_ids)
        return {doc_id: _document(doc) for doc_id, doc in found.items()}

    def queries(self) -> list[Query]:
        """All queries."""
        self._check("queries", "queries")
        with self._download():
            return [Query(query.query_id, _text(query)) for query in self._dataset.queries_iter()]

    def qrels(self) -> Qrels:
        """The judgments; empty when the dataset has none."""
        qrels: dict[str, dict[str, int]] = {}
        if not self._dataset.has_qrels():
            return qrels
        with self._download():
            for qrel in self._dataset.qrels_iter():
                judged = qrels.setdefault(qrel.query_id, {})
                if judged.setdefault(qrel.doc_id, qrel.relevance) != qrel.relevance:
                    raise InputError(
                        f"{self.name}: document {qrel.doc_id!r} is judged {judged[qrel.doc_id]} and {qrel.relevance} "
                        f"for query {qrel.query_id!r}; choose a dataset with one judgment for each"
                    )
        return qrels

    def _check(self, kind: str, what: str) -> None:
        if not self._dataset.has(kind):
            raise InputError(f"the ir_datasets id {self.name!r} has no {what}; one of its parts may, or its parent")

    @contextmanager
    def _download(self) -> Iterator[None]:
        """What goes wrong under way, in our words; ir_datasets raises OSError or RuntimeError (all mirrors failed)."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise _not_there(self.name, error) from error


def nearest_ids(name: str) -> list[str]:
    """The id of ir_datasets that is most like this name, if one is."""
    import ir_datasets

    return difflib.get_close_matches(name, list(ir_datasets.registry), n=1, cutoff=0.6)


def _document(doc: Any) -> Document:
    """Title and text apart where they are so; else whatever ir_datasets takes for the document's text."""
    if {"title", "text"} <= set(doc._fields):
        return Document(doc.doc_id, doc.text, doc.title or "")
    return Document(doc.doc_id, doc.default_text() if hasattr(doc, "default_text") else doc.text)


def _text(query: Any) -> str:
    """What a searcher would type: a TREC topic's title, not its description."""
    for name in ("text", "title", "query"):
        if name in query._fields:
            return str(getattr(query, name))
    raise InputError(f"query {query.query_id!r} has none of text, title and query; it has {', '.join(query._fields)}")


def _not_there(name: str, error: Exception) -> FileError:
    from ir_datasets.util import home_path

    request = getattr(error, "request", None)
    address = f" ({request.url})" if request is not None else ""
    return FileError(
        f"ir_datasets cannot get {name!r}{address}: {error}; without a network, load it once on a machine that has "
        f"one and copy its folder ~/.ir_datasets to {home_path()} (the variable IR_DATASETS_HOME names another place)"
    )
