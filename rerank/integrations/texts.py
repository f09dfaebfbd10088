"""What all adapters do: texts of a framework in, indices and scores out, best first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank.errors import InputError
from rerank.pipeline import Reranks
from rerank.rerankers.reranker import Reranker
from rerank.types import Document, Query, Ranking

__all__ = ["Scored", "best_first", "check_count", "reranker_of"]

Scored = tuple[int, float | None]
"""The index of a text, and its score; None where the method gave it none."""


def reranker_of(reranker: object, **options: Any) -> Reranks:
    """A reranker as it is, or one made of a name.

    Args:
        reranker: a `Reranker`, a `RemoteReranker` or a pipeline of such; or the name of a checkpoint or a server.
        options: of `Reranker`, for a name.

    Raises:
        InputError: when it is nothing of that, or there are options for what is made already.
    """
    if isinstance(reranker, str | Path):
        return Reranker(reranker, **options)
    if options:
        raise InputError(f"{', '.join(options)} cannot change a reranker that is already made; give them to it")
    if not isinstance(reranker, Reranks):
        raise InputError(f"{reranker!r} is no reranker; give a Reranker, a pipeline of rerankers, or a name")
    return reranker


def best_first(reranker: Reranks, query: str | Query, texts: Sequence[str], *, top: int | None = None) -> list[Scored]:
    """Texts by index, best first; nothing is asked about none.

    Args:
        reranker: that orders them.
        query: its text, or a query.
        texts: in any order; equal ones are told apart by their index.
        top: only the best so many; None for all.
    """
    check_count("top", top)
    if not texts:
        return []
    asked = query if isinstance(query, Query) else Query("query", query)
    documents = [Document(str(index), text) for index, text in enumerate(texts)]
    [ranking] = reranker.rerank([Ranking.unscored(asked, documents)])
    return [(int(candidate.document.doc_id), candidate.score) for candidate in ranking][:top]


def check_count(name: str, count: int | None) -> None:
    """Refuse a number of documents that is none.

    Raises:
        InputError: when it is below 1, or no whole number.
    """
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise InputError(f"{name}={count!r}; it is a whole number of at least 1, or None for all")
