"""An oracle: a judge that knows the judgments, as well or as badly as you like. For tests, examples and teaching."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import ClassVar

from rerank.errors import InputError
from rerank.questions import (
    Announce,
    Answer,
    Bill,
    Compare,
    Compared,
    Grade,
    Graded,
    GradedSet,
    GradeSet,
    Heard,
    Permute,
    Permuted,
    Pick,
    Picked,
    Question,
    Write,
    Written,
)
from rerank.types import Document, Qrels, Query

__all__ = ["Oracle"]


class Oracle:
    """Answers from the judgments, with seeded Gaussian noise on every look at a document.

    Args:
        qrels: what is relevant; a document without a judgment has relevance 0.
        noise: standard deviation of what is added to the relevance at each look; 0 is a perfect judge. The same
            question gets the same noise: it is drawn from the seed, the question and its `draw`.
        seed: of the noise.

    A tie in what it sees is broken towards the document shown first, and P = 0.5 in a comparison. What it writes is the
    query.
    """

    answers: ClassVar[frozenset[type]] = frozenset({Grade, GradeSet, Compare, Pick, Permute, Write, Announce})
    reads_ids: ClassVar[bool] = True

    def __init__(self, qrels: Qrels, *, noise: float = 0.0, seed: int = 0) -> None:
        if not (math.isfinite(noise) and noise >= 0):
            raise InputError(f"noise={noise}; it is a standard deviation, at least 0")
        self.qrels = qrels
        self.noise = noise
        self.seed = seed
        content = json.dumps([{query: dict(judged) for query, judged in qrels.items()}, noise, seed], sort_keys=True)
        self.key = f"oracle-{hashlib.sha256(content.encode()).hexdigest()[:32]}"

    @classmethod
    def erring(cls, qrels: Qrels, share: float, *, seed: int = 0) -> Oracle:
        """An oracle that tells two documents one grade apart the wrong way round in this share of looks.

        Args:
            qrels: what is relevant.
            share: from 0, a perfect judge, to below 0.5, which would be a coin; 0.1 is "10 % noise".
            seed: of the noise.

        Raises:
            InputError: when the share is not in that range.
        """
        if not 0 <= share < 0.5:
            raise InputError(f"share={share}; a judge errs in 0 to below 0.5 of its looks")
        return cls(qrels, noise=1 / (math.sqrt(2) * NormalDist().inv_cdf(1 - share)) if share else 0.0, seed=seed)

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Answer]]:
        """One answer for each question, in the order asked; a call each on the bill, but for announcements."""
        for index, question in enumerate(questions):
            if not isinstance(question, Announce):
                bill.charge(question.query.query_id, calls=1)
            yield index, self._answer(question)

    def _answer(self, question: Question) -> Answer:
        if isinstance(question, Announce):
            return Heard()
        if isinstance(question, Write):
            return Written(question.query.text)
        seen = [self._look(question, document) for document in question.documents]
        match question:
            case Grade():
                return Graded(seen[0])
            case GradeSet():
                return GradedSet(tuple(seen))
            case Compare():
                return Compared(0.5 if seen[0] == seen[1] else float(seen[0] > seen[1]))
            case Pick():
                order = _best_first([-score for score in seen] if question.worst else seen)
                return Picked(tuple(order[: question.count]), tuple(seen))
            case Permute():
                return Permuted(tuple((index,) for index in _best_first(seen)), tuple(seen))

    def _look(self, question: Question, document: Document) -> float:
        relevance = float(self.qrels.get(question.query.query_id, {}).get(document.doc_id, 0))
        return relevance + self._error(question, document) if self.noise else relevance

    def _error(self, question: Question, document: Document) -> float:
        """Noise that depends on the seed and the whole question, and on nothing that was asked before."""
        shown = [other.doc_id for other in question.documents]
        parts = [str(self.seed), type(question).__name__, str(question.draw), _name(question.query), *shown]
        digest = hashlib.sha256("\x1f".join([*parts, document.doc_id]).encode()).digest()
        uniform = (int.from_bytes(digest[:7], "little") + 0.5) / 2**56
        return self.noise * NormalDist().inv_cdf(uniform)


def _name(query: Query) -> str:
    return f"{query.query_id}\x1e{query.text}"


def _best_first(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: -scores[index])
