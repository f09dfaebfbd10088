"""Words in another order, which a reader of texts must notice and a reader of words cannot."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from rerank.types import Candidate, Ranking

__all__ = ["shuffled_documents", "shuffled_words"]


def shuffled_words(text: str, chance: Random) -> str:
    """The words of a text in an order that means nothing; white space becomes single blanks."""
    words = text.split()
    return " ".join(chance.sample(words, len(words)))


def shuffled_documents(ranking: Ranking, chance: Random) -> Ranking:
    """Every document's text with its words shuffled; titles stay."""
    return Ranking(
        ranking.query,
        tuple(
            Candidate(replace(document, text=shuffled_words(document.text, chance)), candidate.score)
            for candidate in ranking
            for document in [candidate.document]
        ),
    )
