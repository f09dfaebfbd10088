"""Queries expanded by the terms of the first documents that they find: RM3 and Rocchio, with Anserini's defaults."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rerank.errors import InputError
from rerank.registry import unknown

__all__ = ["METHODS", "Feedback", "Found", "Weights", "expanded"]

METHODS = ("none", "rm3", "rocchio")

USABLE = {"rm3": re.compile(r"[a-z0-9]{2,20}"), "rocchio": re.compile(r".{2,20}", re.DOTALL)}
"""A term that may be added: Anserini leaves out what is shorter, longer, and for RM3 of other characters."""

MOST_HOLD = 0.1
"""A term that a larger share of the collection holds is not added: it is as good as a stop word."""

Weights: TypeAlias = Mapping[str, float]
"""term -> what it weighs in a query."""

Found: TypeAlias = Sequence[tuple[Mapping[str, int], float]]
"""The first documents, best first: how often each term occurs in one, and its score."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """How a query is expanded.

    Args:
        method: "none"; "rm3" (Abdul-Jaleel et al., 2004; the relevance model is Lavrenko and Croft's first,
            https://doi.org/10.1145/383952.383972); or "rocchio" (Rocchio, 1971), without negative feedback.
        documents: how many of the first documents are read.
        terms: how many of their terms are taken, the heaviest.
        original_weight: "rm3": what the query's own terms weigh together, from 0 to 1; those of the documents weigh the
            rest.
        beta: "rocchio": what the vector of the documents weighs, the query's own weighing 1.

    Raises:
        UnknownName: when there is no such method.
        InputError: when a number is outside its range.
    """

    method: str = "none"
    documents: int = 10
    terms: int = 10
    original_weight: float = 0.5
    beta: float = 0.75

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown("feedback", str(self.method), METHODS)
        for name in ("documents", "terms"):
            if getattr(self, name) < 1:
                raise InputError(f"feedback_{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.original_weight <= 1:
            raise InputError(f"original_weight is {self.original_weight}; it must be a number from 0 to 1")
        if not 0 <= self.beta < math.inf:
            raise InputError(f"beta is {self.beta}; it must be a number of at least 0")

    def __bool__(self) -> bool:
        return self.method != "none"


def expanded(
    feedback: Feedback, query: Sequence[str], found: Found, held_by: Callable[[str], int], count: int
) -> dict[str, float]:
    """What the terms of a query weigh after feedback, the heaviest first; equal ones in the order of the alphabet.

    RM3: λ · tf(term, query) / |query| + (1 − λ) · P(term), where P is proportional to Σ over documents of
    score · tf(term, document) / |document|, of the heaviest terms alone. A document is its most frequent usable terms,
    as many as are taken in the end, and |document| counts them, as Anserini has it.

    Rocchio: the query's vector of length 1, and β times the mean of the documents' vectors of length 1, of its heaviest
    terms alone and brought to length 1 again; a vector holds how often terms occur.

    Args:
        query: its terms.
        found: the first documents.
        held_by: how many documents of the collection hold a term.
        count: documents of the collection.
    """
    own, documents = _unit(Counter(query), feedback), found[: feedback.documents]
    added: dict[str, float] = {}
    for terms, score in documents:
        usable = [term for term in terms if _usable(term, feedback, held_by, count)]
        vector: Mapping[str, float] = {term: terms[term] for term in usable}
        if feedback.method == "rm3":
            vector = dict(_heaviest(vector)[: feedback.terms])
        for term, weight in _unit(vector, feedback).items():
            added[term] = added.get(term, 0.0) + (weight * score if feedback.method == "rm3" else weight)
    chosen = _unit(dict(_heaviest(added)[: feedback.terms]), feedback)
    of_own, of_added = _shares(feedback)
    weights = {
        term: of_own * own.get(term, 0.0) + of_added * chosen.get(term, 0.0) for term in dict.fromkeys([*own, *chosen])
    }
    return {term: weight for term, weight in _heaviest(weights) if weight > 0}


def _shares(feedback: Feedback) -> tuple[float, float]:
    if feedback.method == "rm3":
        return feedback.original_weight, 1 - feedback.original_weight
    return 1.0, feedback.beta


def _unit(vector: Mapping[str, float], feedback: Feedback) -> dict[str, float]:
    """RM3 adds up probabilities, and Rocchio directions."""
    if feedback.method == "rm3":
        length = math.fsum(vector.values())
    else:
        length = math.sqrt(math.fsum(weight * weight for weight in vector.values()))
    return {term: weight / length for term, weight in vector.items()} if length else {}


def _usable(term: str, feedback: Feedback, held_by: Callable[[str], int], count: int) -> bool:
    return bool(USABLE[feedback.method].fullmatch(term)) and held_by(term) / count <= MOST_HOLD


def _heaviest(weights: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(weights.items(), key=lambda item: (-item[1], item[0]))
