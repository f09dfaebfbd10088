"""JSONL requests: one query and its candidates, with their texts, in a line.

Our own shape, where `instruction`, `title` and `score` may be left out:

    {"query": {"query_id": "1", "text": "…", "instruction": "…"},
     "candidates": [{"doc_id": "a", "text": "…", "title": "…", "score": 1.5}]}

and rank_llm's, where the text is the first of `DOC_TEXTS` that `doc` has, and ids may be whole numbers:

    {"query": {"qid": "1", "text": "…"}, "candidates": [{"docid": "a", "score": 1.5, "doc": {"contents": "…"}}]}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from rerank.errors import FileError, InputError
from rerank.io.atomic import atomic_write, json_line
from rerank.io.fields import identifier, optional_text, score_of, text_of
from rerank.io.float32 import strictly_falling
from rerank.io.lines import json_lines
from rerank.types import Candidate, Document, Query, Ranking

__all__ = ["DOC_TEXTS", "read_requests", "write_requests"]

DOC_TEXTS = ("text", "segment", "contents", "content", "body", "passage")
"""Where rank_llm looks for the text of a `doc`, in this order."""


def read_requests(path: str | Path) -> Iterator[Ranking]:
    """The rankings of a file of requests, one at a time; each line may be of either shape.

    The order of the candidates is authoritative. Keys that are not named above are passed over.

    Raises:
        FileError: when the file cannot be read or is empty, a line is no request, a query has no text or no candidate,
            an id occurs twice, or scores contradict the order.
    """
    seen: dict[str, int] = {}
    for number, values in json_lines(path):
        where = f"{path}:{number}"
        query, ours = _query(_part(values, "query", where), where)
        first = seen.setdefault(query.query_id, number)
        if first != number:
            raise FileError(f"{where}: the query id {query.query_id!r} stands in line {first} too")
        candidates = tuple(_candidates(values, ours, where))
        _check_order(candidates, where)
        try:
            yield Ranking(query, candidates)
        except InputError as error:
            raise FileError(f"{where}: {error}") from error


def write_requests(
    path: str | Path, rankings: Iterable[Ranking], shape: Literal["rerank", "rank_llm"] = "rerank"
) -> None:
    """Write rankings as requests.

    Args:
        path: where to; a name in `.gz` is compressed.
        rankings: may be a generator; each is written as it comes.
        shape: "rerank" gives back equal rankings when read. "rank_llm" wants a score for every candidate: where one
            has none, all candidates of the query get the scores that a TREC run would give them (`run_scores`).

    Raises:
        InputError: when the shape is unknown, a ranking has no candidate, two are of one query, or there is none.
        FileError: when the file cannot be written.
    """
    if shape not in _WRITERS:
        raise InputError(f"requests have no shape {shape!r}; there is {', '.join(map(repr, _WRITERS))}")
    seen: set[str] = set()
    with atomic_write(path) as file:
        for ranking in rankings:
            query_id = ranking.query.query_id
            if not ranking or query_id in seen:
                raise InputError(f"query {query_id!r} has no candidate or comes twice; leave it out of the requests")
            seen.add(query_id)
            file.write(json_line(_WRITERS[shape](ranking)))
        if not seen:
            raise InputError(f"there is no ranking to write to {path}")


def _part(values: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    part = values.get(key)
    if not isinstance(part, dict):
        raise FileError(f"{where}: {key!r} is {part!r}; a JSON object is wanted")
    return part


def _query(values: dict[str, Any], where: str) -> tuple[Query, bool]:
    """The query, and whether the line is of our own shape."""
    ours = "query_id" in values
    if ours == ("qid" in values):
        raise FileError(f"{where}: a query has a 'query_id' (our shape) or a 'qid' (rank_llm's): {values!r}")
    query_id = identifier(values, "query_id" if ours else "qid", where)
    try:
        return Query(query_id, text_of(values, "text", where), optional_text(values, "instruction", where)), ours
    except FileError:
        raise
    except InputError as error:
        raise FileError(f"{where}: {error}") from error


def _candidates(values: Mapping[str, Any], ours: bool, where: str) -> Iterator[Candidate]:
    candidates = values.get("candidates")
    if not isinstance(candidates, list) or not candidates:
        raise FileError(f"{where}: 'candidates' is {candidates!r}; a list of at least one is wanted")
    for rank, candidate in enumerate(candidates, start=1):
        place = f"{where}: candidate {rank}"
        if not isinstance(candidate, dict):
            raise FileError(f"{place} is {candidate!r}; a JSON object is wanted")
        document = _document(candidate, place) if ours else _rank_llm_document(candidate, place)
        yield Candidate(document, score_of(candidate, place))


def _document(values: Mapping[str, Any], where: str) -> Document:
    doc_id = identifier(values, "doc_id", where)
    return Document(doc_id, text_of(values, "text", where), optional_text(values, "title", where))


def _rank_llm_document(values: Mapping[str, Any], where: str) -> Document:
    doc_id, doc = identifier(values, "docid", where), _part(values, "doc", where)
    for key in DOC_TEXTS:
        if key in doc:
            return Document(doc_id, text_of(doc, key, where), optional_text(doc, "title", where))
    raise FileError(
        f"{where}: 'doc' has none of {', '.join(map(repr, DOC_TEXTS))}; it has {', '.join(doc) or 'nothing'}"
    )


def _check_order(candidates: tuple[Candidate, ...], where: str) -> None:
    for better, worse in pairwise(candidates):
        if worse.score is not None and (better.score is None or better.score < worse.score):
            raise FileError(
                f"{where}: the candidates are not best first: {worse.document.doc_id!r} ({worse.score}) stands below "
                f"{better.document.doc_id!r} ({better.score}); sort the candidates or leave the scores out"
            )


def _ours(ranking: Ranking) -> dict[str, Any]:
    query = ranking.query
    candidates = [
        {"doc_id": candidate.document.doc_id, "text": candidate.document.text}
        | _title(candidate.document)
        | ({} if candidate.score is None else {"score": candidate.score})
        for candidate in ranking
    ]
    return {"query": {"query_id": query.query_id, "text": query.text} | _instruction(query), "candidates": candidates}


def _rank_llm(ranking: Ranking) -> dict[str, Any]:
    query, scores = ranking.query, [candidate.score for candidate in ranking]
    numbers = strictly_falling(scores) if None in scores else scores
    candidates = [
        {"docid": document.doc_id, "score": score, "doc": _title(document) | {"contents": document.text}}
        for document, score in zip(ranking.documents, numbers, strict=True)
    ]
    return {"query": {"qid": query.query_id, "text": query.text} | _instruction(query), "candidates": candidates}


def _instruction(query: Query) -> dict[str, str]:
    return {"instruction": query.instruction} if query.instruction else {}


def _title(document: Document) -> dict[str, str]:
    return {"title": document.title} if document.title else {}


_WRITERS = {"rerank": _ours, "rank_llm": _rank_llm}
