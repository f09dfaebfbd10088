"""Collections to pick a query from: what ships with the package and what the server was told of, retrieved by BM25."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from rerank import registry
from rerank.datasets import Dataset
from rerank.datasets.catalogue import known, read
from rerank.errors import InputError
from rerank.registry import unknown

__all__ = ["Collections"]

CUTOFF = 20


class Collections:
    """What the page offers. Queries are read when they are asked for, documents when one of theirs is chosen.

    Args:
        told: names, folders or ir_datasets ids beside those that ship.

    Raises:
        UnknownName, FileError: when there is no such dataset.
        InputError: when two have one name.
    """

    def __init__(self, told: Sequence[str] = ()) -> None:
        shipped = [name for name in known() if read(name).folder]  # they need no download
        self._described = {name: read(name).description for name in shipped}
        self._datasets: Mapping[str, Dataset] = self._named([*dict.fromkeys([*shipped, *told])])
        self._retriever = cache(self._indexed)

    def listed(self) -> list[dict[str, Any]]:
        """Every collection with its queries."""
        return [
            {
                "name": name,
                "description": self._described.get(name, ""),
                "queries": [{"query_id": query.query_id, "text": query.text} for query in dataset.queries],
            }
            for name, dataset in self._datasets.items()
        ]

    def candidates(self, name: str, query_id: str) -> dict[str, Any]:
        """What BM25 finds for a query, best first, with the relevance that people gave; None where nobody did.

        Raises:
            UnknownName: when there is no such collection, or it has no such query.
        """
        if name not in self._datasets:
            raise unknown("collection of the page", name, self._datasets)
        dataset = self._datasets[name]
        queries = {query.query_id: query for query in dataset.queries}
        if query_id not in queries:
            raise unknown(f"query of {name}", query_id, queries)
        [ranking] = self._retriever(name).retrieve([queries[query_id]], CUTOFF, exclude=dataset.excluded)
        judged = dataset.qrels.get(query_id, {})
        return {
            "query": queries[query_id].text,
            "documents": [
                {"text": candidate.document.full_text, "relevance": judged.get(candidate.document.doc_id)}
                for candidate in ranking
            ],
        }

    def _indexed(self, name: str) -> Any:
        return registry.load("retriever", "bm25").of(self._datasets[name], progress=False)

    @staticmethod
    def _named(names: Sequence[str]) -> dict[str, Dataset]:
        found: dict[str, Dataset] = {}
        for name in names:
            dataset = Dataset.load(name)
            if dataset.name in found:
                raise InputError(f"two collections are called {dataset.name!r}; leave {name} out, or rename its folder")
            found[dataset.name] = dataset
        return found
