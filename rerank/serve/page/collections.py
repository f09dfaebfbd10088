"""Collections to pick a query from: what ships with the package, retrieved by BM25."""

from __future__ import annotations

from functools import cache
from typing import Any

from rerank import registry
from rerank.datasets import Dataset
from rerank.datasets.catalogue import known, read
from rerank.registry import unknown

__all__ = ["candidates", "listed"]

CUTOFF = 20


@cache
def _shipped() -> tuple[str, ...]:
    """Those that need no download and no search on the reader's disk."""
    return tuple(name for name in known() if read(name).folder)


@cache
def _loaded(name: str) -> tuple[Dataset, Any]:
    if name not in _shipped():
        raise unknown("collection of the page", name, _shipped())
    dataset = Dataset.load(name)
    return dataset, registry.load("retriever", "bm25").of(dataset, progress=False)


def listed() -> list[dict[str, Any]]:
    """Every collection with its queries."""
    return [
        {
            "name": name,
            "description": read(name).description,
            "queries": [{"query_id": query.query_id, "text": query.text} for query in Dataset.load(name).queries],
        }
        for name in _shipped()
    ]


def candidates(name: str, query_id: str) -> dict[str, Any]:
    """What BM25 finds for a query, best first, with the relevance that people gave; None where nobody did.

    Raises:
        UnknownName: when there is no such collection, or it has no such query.
    """
    dataset, bm25 = _loaded(name)
    queries = {query.query_id: query for query in dataset.queries}
    if query_id not in queries:
        raise unknown(f"query of {name}", query_id, queries)
    [ranking] = bm25.retrieve([queries[query_id]], CUTOFF)
    judged = dataset.qrels.get(query_id, {})
    return {
        "query": queries[query_id].text,
        "documents": [
            {"text": candidate.document.full_text, "relevance": judged.get(candidate.document.doc_id)}
            for candidate in ranking
        ],
    }
