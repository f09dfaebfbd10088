"""Scores with labels: what a calibration is fitted to."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank.calibration.curves import Values
from rerank.errors import InputError
from rerank.types import Qrels, Ranking, Run, Scores

__all__ = ["UNJUDGED", "Examples"]

UNJUDGED = ("irrelevant", "left-out")
"""What a document without a judgment may be taken for."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Scores and labels of judged queries.

    Args:
        scores: [examples].
        labels: [examples], 1 relevant and 0 not.
        queries: [examples], the number of the example's query, from 0.
        unjudged: documents without a judgment: taken for irrelevant, or left out.
    """

    scores: Values
    labels: Values
    queries: NDArray[np.int64]
    unjudged: int = 0

    @classmethod
    def of(cls, qrels: Qrels, run: Run | Scores, *, relevant_from: int = 1, unjudged: str = "irrelevant") -> Examples:
        """Every scored document of every judged query, in the order of the run.

        Args:
            qrels: query_id -> doc_id -> relevance.
            run: query_id -> ranking, or query_id -> doc_id -> score.
            relevant_from: the least relevance that counts as relevant.
            unjudged: "irrelevant" (as measures see it) or "left-out".

        Raises:
            InputError: when no scored document is of a judged query, or a score is not finite.
        """
        if unjudged not in UNJUDGED:
            raise InputError(f"unjudged={unjudged!r}; it may be {' or '.join(map(repr, UNJUDGED))}")
        rows: list[tuple[float, float, int]] = []
        missing = 0
        judged = [query_id for query_id in run if qrels.get(query_id)]
        for number, query_id in enumerate(judged):
            for doc_id, score in _scored(query_id, run[query_id]):
                relevance = qrels[query_id].get(doc_id)
                missing += relevance is None
                if relevance is not None or unjudged == "irrelevant":
                    rows.append((score, float((relevance or 0) >= relevant_from and relevance is not None), number))
        if not rows:
            raise InputError("no scored document is of a judged query; are run and judgments of one collection?")
        scores, labels, queries = zip(*rows, strict=True)
        return cls(np.array(scores), np.array(labels), np.array(queries), missing)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def relevant(self) -> int:
        """How many are relevant."""
        return int(self.labels.sum())

    @property
    def query_count(self) -> int:
        """Of how many queries they are."""
        return len(np.unique(self.queries))

    def folds(self, count: int, seed: int) -> NDArray[np.int64]:
        """The fold of each example, [examples]: whole queries, dealt in a seeded order, those with relevant ones first.

        Raises:
            InputError: when fewer than two queries have relevant examples, or there are fewer than two folds.
        """
        good = set(self.queries[self.labels == 1].tolist())
        if len(good) < 2 or count < 2:
            raise InputError(
                f"{len(good)} queries have a relevant document, and there are {count} folds; "
                "to hold queries out, two of each are needed"
            )
        every = sorted(set(self.queries.tolist()))
        random.Random(seed).shuffle(every)
        dealt = sorted(every, key=lambda query: query not in good)
        fold = {query: place % min(count, len(every)) for place, query in enumerate(dealt)}
        return np.array([fold[query] for query in self.queries.tolist()])


def _scored(query_id: str, ranked: Ranking | object) -> Iterator[tuple[str, float]]:
    if isinstance(ranked, Ranking):
        pairs = [(one.document.doc_id, one.score) for one in ranked if one.score is not None]
    else:
        pairs = list(ranked.items())  # type: ignore[attr-defined]
    for doc_id, score in pairs:
        if not math.isfinite(score):
            raise InputError(f"document {doc_id!r} of query {query_id!r} has the score {score}; scores are finite")
        yield doc_id, score
