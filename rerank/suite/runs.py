"""Runs of collections whose ids hold blanks, which part the columns of a TREC file: a sign stands for each there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rerank import io
from rerank.errors import InputError
from rerank.types import Candidate, Ranking, Scores

__all__ = ["BLANK", "read_run", "write_run"]

BLANK = "\u2420"
"""The symbol for a blank, which no collection has in its ids."""


def write_run(path: str | Path, rankings: Sequence[Ranking], tag: str) -> None:
    """As `rerank.io.write_run`, with `BLANK` for each blank of an id.

    Raises:
        InputError: when an id holds that sign itself, or whatever else cannot stand in a run.
        FileError: when the file cannot be written.
    """
    io.write_run(path, map(_spelled, rankings), tag)


def read_run(path: str | Path) -> Scores:
    """What `write_run` wrote.

    Raises:
        FileError: as `rerank.io.read_run`.
    """
    return {
        _read(query_id): {_read(doc_id): score for doc_id, score in ranked.items()}
        for query_id, ranked in io.read_run(path).items()
    }


def _spelled(ranking: Ranking) -> Ranking:
    ids = [ranking.query.query_id, *(document.doc_id for document in ranking.documents)]
    if strange := [name for name in ids if BLANK in name]:
        raise InputError(f"the id {strange[0]!r} holds {BLANK!r}, which stands for a blank in a suite's runs")
    if not any(" " in name for name in ids):
        return ranking
    query = replace(ranking.query, query_id=_word(ranking.query.query_id))
    spelled = (
        Candidate(replace(candidate.document, doc_id=_word(candidate.document.doc_id)), candidate.score)
        for candidate in ranking
    )
    return Ranking(query, tuple(spelled))


def _word(name: str) -> str:
    return name.replace(" ", BLANK)


def _read(word: str) -> str:
    return word.replace(BLANK, " ")
