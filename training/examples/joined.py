"""Examples that name queries and documents by their ids, joined to the texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from training.examples.record import BadExample, Example, Pair
from training.examples.stream import Note, Read
from training.examples.texts import Collection

__all__ = ["Named", "join"]


@dataclass(frozen=True, slots=True)
class Named:
    """An example without its texts; the fields are those of `Example`."""

    where: str
    query_id: str
    doc_ids: tuple[str, ...]
    relevance: tuple[float, ...] | None = None
    scores: tuple[float, ...] | None = None
    order: tuple[int, ...] | None = None
    pairs: tuple[Pair, ...] | None = None
    completion: str | None = None
    logits: tuple[tuple[float, float], ...] | None = None


def join(named: Iterable[Named | BadExample | Note], collection: Collection) -> Read:
    """Examples with their texts; one whose query or document the collection lacks is refused: it is of other ids."""
    for one in named:
        yield _joined(one, collection) if isinstance(one, Named) else one


def _joined(one: Named, collection: Collection) -> Example | BadExample:
    query = collection.queries.find([one.query_id]).get(one.query_id)
    if query is None:
        return BadExample("unknown query", f"{one.query_id!r} is not in {collection.name}", one.where)
    texts = collection.documents.find(one.doc_ids)
    if missing := [doc_id for doc_id in one.doc_ids if doc_id not in texts]:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return BadExample("unknown document", f"{missing[0]!r}{others} is not in {collection.name}", one.where)
    try:
        return Example(
            query,
            tuple(texts[doc_id] for doc_id in one.doc_ids),
            relevance=one.relevance,
            scores=one.scores,
            order=one.order,
            pairs=one.pairs,
            query_id=one.query_id,
            doc_ids=one.doc_ids,
            where=one.where,
            completion=one.completion,
            logits=one.logits,
        )
    except BadExample as error:
        return error
