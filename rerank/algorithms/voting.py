"""A choice put to the vote: asked several times, documents in drawn orders, so that no place in a prompt decides."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from rerank.algorithms.answers import chosen
from rerank.errors import InputError
from rerank.questions import Answer, Pick
from rerank.types import Document, Query

__all__ = ["Vote", "check_votes"]


class Vote:
    """One choice among documents, put to a judge `votes` times.

    Rank-R1 (Zhuang et al., 2025, https://arxiv.org/abs/2503.06034) shuffles the documents of every comparison.

    Args:
        query, documents: what is asked about; the first document is the one that stays where nothing else is chosen.
        votes: how often; each vote is a draw of its own.
        shuffle: show the documents in an order drawn from the seed, the vote and the documents themselves; the same
            comparison is shown alike whenever it comes up.
        seed: of the orders.
    """

    def __init__(
        self, query: Query, documents: Sequence[Document], *, votes: int = 1, shuffle: bool = False, seed: int = 0
    ) -> None:
        self.orders = [
            _order(query, documents, seed, vote) if shuffle else [*range(len(documents))] for vote in range(votes)
        ]
        self.questions = [
            Pick(query, tuple(documents[index] for index in order), draw=vote) for vote, order in enumerate(self.orders)
        ]

    def winner(self, answers: Sequence[Answer]) -> int:
        """The index of the document with the most votes: of equal ones the first; and that too when no vote counts.

        A vote that could not be read is not counted.
        """
        counts: Counter[int] = Counter()
        for order, question, answer in zip(self.orders, self.questions, answers, strict=True):
            if (choice := chosen(question, answer)) is not None:
                counts[order[choice]] += 1
        return min(counts, key=lambda index: (-counts[index], index), default=0)


def check_votes(votes: int) -> None:
    """Refuse a choice that nobody is asked about."""
    if votes < 1:
        raise InputError(f"votes={votes}; a choice is asked at least once")


def _order(query: Query, documents: Sequence[Document], seed: int, vote: int) -> list[int]:
    shown = "\0".join([query.text, *(document.full_text for document in documents)])
    return random.Random(f"{seed} {vote} {shown}").sample(range(len(documents)), len(documents))
