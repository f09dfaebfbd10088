"""Which documents a query must not get."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rerank.errors import InputError

__all__ = ["excluded"]


def excluded(exclude: Mapping[str, Collection[str]], query_id: str) -> frozenset[str]:
    """The ids of the documents that are left out for a query; none when it is not named.

    Raises:
        InputError: when one str stands where ids are wanted: it would leave out the documents called like its letters.
    """
    doc_ids = exclude.get(query_id, ())
    if isinstance(doc_ids, str):
        raise InputError(f"query {query_id!r} excludes {doc_ids!r}; give a collection of ids, such as [{doc_ids!r}]")
    return frozenset(doc_ids)
