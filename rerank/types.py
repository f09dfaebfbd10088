"""The nouns: queries, documents, candidates, rankings, runs and judgments.

Everything here is frozen and checks itself when it is made, so that whoever receives a `Ranking` need not check again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias, overload

from rerank.errors import InputError

__all__ = ["Candidate", "Document", "Qrels", "Query", "Ranking", "Run", "Scores"]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked.

    Args:
        query_id: its id; comes out as it went in.
        text: its words; never empty.
        instruction: what kind of relevance is meant, for the models that read one.

    Raises:
        InputError: when the text is empty.
    """

    query_id: str
    text: str
    instruction: str = ""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InputError(f"query {self.query_id!r} has no text; give it some or leave the query out")


@dataclass(frozen=True, slots=True)
class Document:
    """The unit that is ranked: an id, a text (which may be empty) and perhaps a title."""

    doc_id: str
    text: str
    title: str = ""

    @property
    def full_text(self) -> str:
        """Title and text in one line, as BEIR's flat indexes and most cross-encoders read them."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document and the score of the stage that ranked it: higher is better; None where it did not score it."""

    document: Document
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking(Sequence[Candidate]):
    """One query's candidates, best first. The order is authoritative; scores say what the method measured.

    The scored candidates come first, their scores finite and non-increasing; those that the stage did not score follow
    in their old order with None. Ties are legal.

    Raises:
        InputError: when two candidates share an id, or the scores break the rule above.
    """

    query: Query
    candidates: tuple[Candidate, ...] = field(default=())

    def __post_init__(self) -> None:
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
        """Documents by descending score; equal scores keep the incoming order."""
        if len(documents) != len(scores):
            raise InputError(f"{len(documents)} documents but {len(scores)} scores for query {query.query_id!r}")
        best_first = sorted(range(len(documents)), key=lambda index: -scores[index])
        return cls(query, tuple(Candidate(documents[index], float(scores[index])) for index in best_first))

    @classmethod
    def by_order(cls, ranking: Ranking, order: Sequence[Document]) -> Ranking:
        """The same documents in another order, unscored: the method measured an order and nothing else.

        Raises:
            InputError: when `order` is no permutation of the ranking's documents.
        """
        if sorted(document.doc_id for document in order) != sorted(document.doc_id for document in ranking.documents):
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

Scores: TypeAlias = Mapping[str, Mapping[str, float]]
"""query_id -> doc_id -> score, best first: a run without texts, as a TREC file holds it."""


def _check_ids(query: Query, candidates: tuple[Candidate, ...]) -> None:
    seen: set[str] = set()
    for candidate in candidates:
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
