"""TREC runs: `query_id Q0 doc_id rank score tag`, read and written so that trec_eval sees the same order."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from rerank.errors import FileError, InputError
from rerank.io.atomic import atomic_write
from rerank.io.float32 import shortest, strictly_falling, to_float32
from rerank.io.lines import decoded, lines, shown
from rerank.types import Ranking

__all__ = ["best_first", "read_run", "run_lines", "run_scores", "write_run", "written_lines"]


def read_run(path: str | Path) -> dict[str, dict[str, float]]:
    """query_id -> doc_id -> score, best first as trec_eval reads it.

    That is by descending float32 score, equal scores by descending doc_id; the rank column is ignored. Queries keep
    the order of the file. Scores are the float32 ones.

    Raises:
        FileError: when the file cannot be read or is empty, a line has not six fields or a score that is no finite
            float32, or a document stands twice under a query.
    """
    run: dict[str, dict[str, float]] = {}
    places: dict[str, array[int]] = {}  # the line of each document, in the order of its query's dict
    for number, query_id, doc_id, score in run_lines(path):
        scores = run.setdefault(query_id, {})
        if doc_id in scores:
            first = places[query_id][list(scores).index(doc_id)]
            raise FileError(f"{path}:{number}: document {doc_id!r} stands under query {query_id!r} in line {first} too")
        scores[doc_id] = score
        places.setdefault(query_id, array("Q")).append(number)
    return {query_id: best_first(scores) for query_id, scores in run.items()}


def run_lines(path: str | Path) -> Iterator[tuple[int, str, str, float]]:
    """Line, query_id, doc_id and float32 score of every candidate, one at a time, in the order of the file.

    Raises:
        FileError: as `read_run` does; a document that stands twice under a query is not seen.
    """
    for number, line in lines(path):
        yield number, *_fields(line, f"{path}:{number}")


def best_first(scores: dict[str, float]) -> dict[str, float]:
    """doc_id -> score as trec_eval ranks them: by descending score, equal scores by descending doc_id."""
    # strings compare by code point, which is the order of their UTF-8 bytes and so of trec_eval's strcmp
    return dict(sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True))


def run_scores(rankings: Iterable[Ranking]) -> dict[str, dict[str, float]]:
    """What `read_run` gives back for these rankings once they are written: query_id -> doc_id -> score, best first.

    The order of a ranking is authoritative: where float32 would tie two candidates, the lower one goes down by the
    smallest step; candidates without a score come below the last. A ranking without candidates leaves no trace in a
    TREC file and is absent here.

    Raises:
        InputError: when two rankings are of one query, or an id cannot stand in a TREC file.
    """
    return {ranking.query.query_id: dict(_scored(ranking)) for ranking in _distinct(rankings) if ranking}


def write_run(path: str | Path, rankings: Iterable[Ranking], tag: str = "rerank") -> None:
    """Write rankings as a TREC run, with the scores of `run_scores`.

    Args:
        path: where to; a name in `.gz` is compressed.
        rankings: may be a generator; each is written as it comes.
        tag: the run's name, the last column.

    Raises:
        InputError: when an id or the tag is empty or holds white space, two rankings are of one query, or there is no
            candidate to write.
        FileError: when the file cannot be written.
    """
    written = 0
    with atomic_write(path) as file:
        for line in written_lines(rankings, tag):
            file.write(line)
            written += 1
        if not written:
            raise InputError(f"there is no candidate to write to {path}; an empty run cannot be evaluated")


def written_lines(rankings: Iterable[Ranking], tag: str = "rerank") -> Iterator[str]:
    """The lines that `write_run` writes, each with its end.

    Raises:
        InputError: as `write_run` does, but for an empty run.
    """
    _check_word("the tag", tag)
    for ranking in _distinct(rankings):
        for rank, (doc_id, score) in enumerate(_scored(ranking), start=1):
            yield f"{ranking.query.query_id} Q0 {doc_id} {rank} {shortest(score)} {tag}\n"


def _fields(line: bytes, where: str) -> tuple[str, str, float]:
    fields = line.split()  # at ASCII white space alone, as trec_eval does
    if len(fields) != 6:
        raise FileError(f"{where}: 6 fields make a line of a run, not {len(fields)}: {shown(line)}")
    return decoded(fields[0], where), decoded(fields[2], where), _score(fields[4], line, where)


def _score(field: bytes, line: bytes, where: str) -> float:
    try:
        score = to_float32(float(field)) if b"_" not in field else None  # Python reads 1_0 as 10, others do not
    except ValueError:
        score = None
    except OverflowError as error:
        raise FileError(
            f"{where}: the score is too large for float32, which trec_eval compares: {shown(line)}"
        ) from error
    if score is None or score - score != 0:  # nan and infinity
        raise FileError(f"{where}: the score {shown(field)} is no finite number: {shown(line)}")
    return score


def _scored(ranking: Ranking) -> Iterator[tuple[str, float]]:
    _check_word("the query id", ranking.query.query_id)
    scores = strictly_falling([candidate.score for candidate in ranking])
    for candidate, score in zip(ranking, scores, strict=True):
        _check_word(f"the document id (query {ranking.query.query_id!r})", candidate.document.doc_id)
        yield candidate.document.doc_id, score


def _distinct(rankings: Iterable[Ranking]) -> Iterator[Ranking]:
    seen: set[str] = set()
    for ranking in rankings:
        if ranking.query.query_id in seen:
            raise InputError(f"two rankings are of query {ranking.query.query_id!r}; a run holds one for each query")
        seen.add(ranking.query.query_id)
        yield ranking


def _check_word(what: str, word: str) -> None:
    # Unicode's white space too: trec_eval would keep it, but readers written in Python split at it
    if word.split() != [word] or "\0" in word:
        raise InputError(f"{what} {word!r} is empty or holds white space, which parts the columns of a TREC file")
