"""The nouns: queries, documents, candidates, rankings, runs and judgments.

Everything here is frozen and checks itself when it is made, so that whoever receives a `Ranking` need not check again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import SupportsFloat, TypeAlias, overload

from rerank.errors import InputError

__all__ = ["LARGEST_RELEVANCE", "Candidate", "Document", "Qrels", "Query", "Ranking", "Run", "Scores"]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked.

    Args:
        query_id: its id; comes out as it went in.
        text: its words; never empty.
        instruction: what kind of relevance is meant, for the models that read one.

    Raises:
        InputError: when the text is empty, or one of the three is no str.
    """

    query_id: str
    text: str
    instruction: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.query_id, str) and isinstance(self.text, str) and isinstance(self.instruction, str)):
            raise _no_text(self, "query_id", "text", "instruction")
        if not self.text.strip():
            raise InputError(f"query {self.query_id!r} has no text; give it some or leave the query out")


@dataclass(frozen=True, slots=True)
class Document:
    """The unit that is ranked: an id, a text (which may be empty) and perhaps a title.

    Raises:
        InputError: when one of the three is no str.
    """

    doc_id: str
    text: str
    title: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.doc_id, str) and isinstance(self.text, str) and isinstance(self.title, str)):
            raise _no_text(self, "doc_id", "text", "title")

    @property
    def full_text(self) -> str:
        """Title and text in one line, as BEIR's flat indexes and most cross-encoders read them."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document and the score of the stage that ranked it: higher is better; None where it did not score it.

    Whatever else converts to a float (an int, a scalar of numpy) is kept as Python's own.

    Raises:
        InputError: when the document is none, or the score is a bool, no number or too large for a float.
    """

    document: Document
    score: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.document, Document):
            raise InputError(f"a candidate's document is {self.document!r}; a Document is wanted")
        if self.score is not None and type(self.score) is not float:  # numpy's float64 is a kind of float
            object.__setattr__(self, "score", _as_float(self.document, self.score))


@dataclass(frozen=True, slots=True)
class Ranking(Sequence[Candidate]):
    """One query's candidates, best first. The order is authoritative; scores say what the method measured.

    The scored candidates come first, their scores finite and non-increasing; those that the stage did not score follow
    in their old order with None. Ties are legal. Candidates may be given as any iterable and are kept as a tuple.

    Raises:
        InputError: when two candidates share an id, the scores break the rule above, or something is of another type.
    """

    query: Query
    candidates: tuple[Candidate, ...] = field(default=())

    def __post_init__(self) -> None:
        if not isinstance(self.query, Query):
            raise InputError(f"the query of a ranking is {self.query!r}; a Query is wanted")
        if type(self.candidates) is not tuple:
            object.__setattr__(self, "candidates", _as_tuple(self.query, self.candidates))
        _check_ids(self.query, self.candidates)
        _check_scores(self.query, self.candidates)

    def __len__(self) -> int:
        return len(self.candidates)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> Ranking: ...
    def __getitem__(self, index: int | slice) -> Candidate | Ranking:
        if isinstance(index, slice):
            return Ranking(self.query, self.candidates[index])
        return self.candidates[index]

    @property
    def documents(self) -> tuple[Document, ...]:
        """The documents alone, best first."""
        return tuple(candidate.document for candidate in self.candidates)

    @classmethod
    def unscored(cls, query: Query, documents: Iterable[Document]) -> Ranking:
        """Documents in the order given, none of them scored."""
        return cls(query, tuple(Candidate(document) for document in documents))

    @classmethod
    def by_score(cls, query: Query, documents: Sequence[Document], scores: Sequence[float]) -> Ranking:
        """Documents by descending score; equal scores keep the incoming order.

        Raises:
            InputError: when there are not as many scores as documents, or one is no finite number.
        """
        if len(documents) != len(scores):
            raise InputError(f"{len(documents)} documents but {len(scores)} scores for query {query.query_id!r}")
        numbers = [_as_float(document, score) for document, score in zip(documents, scores, strict=True)]
        best_first = sorted(range(len(documents)), key=lambda index: -numbers[index])
        return cls(query, tuple(Candidate(documents[index], numbers[index]) for index in best_first))

    @classmethod
    def by_order(cls, ranking: Ranking, order: Sequence[Document]) -> Ranking:
        """The same documents in another order, unscored: the method measured an order and nothing else.

        Raises:
            InputError: when `order` is no permutation of the ranking's documents, titles and texts included.
        """
        if len(order) != len(ranking) or set(order) != set(ranking.documents):
            raise InputError(
                f"the new order of query {ranking.query.query_id!r} does not hold the documents of the old one"
            )
        return cls.unscored(ranking.query, order)

    def then(self, rest: Iterable[Document]) -> Ranking:
        """This ranking with more documents below it, unscored and in the order given."""
        return Ranking(self.query, self.candidates + tuple(Candidate(document) for document in rest))


Run: TypeAlias = Mapping[str, Ranking]
"""query_id -> ranking."""

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
"""query_id -> doc_id -> relevance."""

LARGEST_RELEVANCE = 1_000_000
"""A relevance beyond ± this is refused: trec_eval counts every grade up to the largest, in memory and in time."""

Scores: TypeAlias = Mapping[str, Mapping[str, float]]
"""query_id -> doc_id -> score, best first: a run without texts, as a TREC file holds it."""


def _no_text(value: Query | Document, *names: str) -> InputError:
    name = next(name for name in names if not isinstance(getattr(value, name), str))
    of = "" if name == names[0] else f" of {names[0]} {getattr(value, names[0])!r}"
    return InputError(f"the {name}{of} is {getattr(value, name)!r}; a str is wanted")


def _as_float(document: Document, score: object) -> float:
    if type(score) is float:
        return score
    if not isinstance(score, SupportsFloat) or type(score).__name__ in ("bool", "bool_"):  # numpy's two names for it
        raise _no_score(document, score)
    try:
        return float(score)
    except (TypeError, ValueError, OverflowError) as error:
        raise _no_score(document, score) from error


def _no_score(document: Document, score: object) -> InputError:
    # of a whole number the size alone: Python refuses to write one of thousands of digits
    shown = f"{score.bit_length():,} bits long" if type(score) is int else repr(score)
    return InputError(f"document {document.doc_id!r} has a score that is {shown}; a float is wanted")


def _as_tuple(query: Query, candidates: object) -> tuple[Candidate, ...]:
    if not isinstance(candidates, Iterable):
        raise InputError(f"the candidates of query {query.query_id!r} are {candidates!r}; an iterable is wanted")
    return tuple(candidates)


def _check_ids(query: Query, candidates: tuple[Candidate, ...]) -> None:
    seen: set[str] = set()
    for candidate in candidates:
        if not isinstance(candidate, Candidate):
            raise InputError(f"query {query.query_id!r} has {candidate!r} among its candidates; a Candidate is wanted")
        doc_id = candidate.document.doc_id
        if doc_id in seen:
            raise InputError(f"document {doc_id!r} occurs twice among the candidates of query {query.query_id!r}")
        seen.add(doc_id)


def _check_scores(query: Query, candidates: tuple[Candidate, ...]) -> None:
    for candidate in candidates:
        if candidate.score is not None and not math.isfinite(candidate.score):
            raise InputError(
                f"document {candidate.document.doc_id!r} of query {query.query_id!r} has the score {candidate.score}; "
                "scores are finite"
            )
    for better, worse in pairwise(candidates):
        if worse.score is not None and (better.score is None or better.score < worse.score):
            raise InputError(
                f"the candidates of query {query.query_id!r} are not best first: {worse.document.doc_id!r} "
                f"({worse.score}) stands below {better.document.doc_id!r} ({better.score})"
            )
