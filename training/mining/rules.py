"""What makes a document of a ranking a negative that is worth training on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rerank.errors import InputError

__all__ = ["POSITIVES", "SAMPLING", "Rules"]

SAMPLING = ("top", "random")
POSITIVES = ("each", "together")


@dataclass(frozen=True, slots=True)
class Rules:
    """How negatives are chosen.

    Margins are those of sentence-transformers' `mine_hard_negatives` and of NV-Retriever (Moreira et al., 2024,
    https://arxiv.org/abs/2407.15831), whose TopK-MarginPos is `margin` and whose TopK-PercPos of 95 % is
    `relative_margin=0.05`. They compare a candidate with the positive, by the teacher's scores where a teacher is
    given, else by the ranking's: what scores too near to the positive may be relevant though nobody has judged it.

    Args:
        negatives: for each example, chosen from the ranking.
        randoms: more of them, from the whole collection, whatever they score.
        first_rank, last_rank: ranks that may be chosen, from 1; None: to the end of the ranking.
        margin: a negative scores at least so much less than the positive.
        relative_margin: a negative scores at most (1 − this) × the positive's score, which must be above 0.
        max_score, min_score: a negative scores at most, and at least, so much.
        sampling: "top" takes the best that may be chosen, "random" draws among all of them.
        positives: "each" makes an example for each relevant document, "together" one with all of them; the margin is
            then kept to the one that scores least.
        relevant_from: the least relevance of a positive.
        consistent_within: leave out positives that are not among the best so many of the ranking (the teacher's, where
            there is one): queries whose answer no ranker finds are often wrong (InPars-light, CoRNStack).
        positive_min: leave out positives that score less.
        least: leave out examples with fewer negatives.

    Raises:
        InputError: when a number is out of its range or a word unknown.
    """

    negatives: int = 8
    randoms: int = 0
    first_rank: int = 1
    last_rank: int | None = None
    margin: float | None = None
    relative_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    sampling: str = "top"
    positives: str = "each"
    relevant_from: int = 1
    consistent_within: int | None = None
    positive_min: float | None = None
    least: int = 1

    def __post_init__(self) -> None:
        _check(
            self.negatives >= 0 and self.randoms >= 0 and self.negatives + self.randoms >= 1,
            f"{self.negatives} negatives and {self.randoms} random ones; there is at least 1",
        )
        _check(
            1 <= self.first_rank <= (self.last_rank or self.first_rank) and self.last_rank != 0,
            f"ranks {self.first_rank} to {self.last_rank}; they count from 1",
        )
        _check(
            0 <= self.least <= self.negatives + self.randoms,
            f"least={self.least} of {self.negatives + self.randoms} negatives",
        )
        _check(
            self.relative_margin is None or 0 <= self.relative_margin < 1,
            f"relative_margin={self.relative_margin}; it is a share, from 0 to below 1",
        )
        _check(self.sampling in SAMPLING, f"sampling={self.sampling!r}; it may be {' or '.join(map(repr, SAMPLING))}")
        _check(self.positives in POSITIVES, f"positives={self.positives!r}; 'each' or 'together'")
        _check(
            self.consistent_within is None or self.consistent_within >= 1,
            f"consistent_within={self.consistent_within}; a rank is at least 1",
        )
        for name in ("margin", "max_score", "min_score", "positive_min"):
            value = getattr(self, name)
            _check(value is None or math.isfinite(value), f"{name}={value}; a finite number is wanted")

    @property
    def by_score(self) -> bool:
        """Whether candidates need scores, and positives too where they are compared with them."""
        return self.by_positive or self.max_score is not None or self.min_score is not None

    @property
    def by_positive(self) -> bool:
        """Whether the positive's score is needed."""
        return any(one is not None for one in (self.margin, self.relative_margin, self.positive_min))

    def refuses(self, score: float, positive: float | None) -> str:
        """Why a candidate of this score is no negative beside a positive of that one; "" when it is."""
        if self.max_score is not None and score > self.max_score:
            return "candidates above the highest score"
        if self.min_score is not None and score < self.min_score:
            return "candidates below the lowest score"
        if positive is None:
            return ""
        near = self.margin is not None and score > positive - self.margin
        if near or (self.relative_margin is not None and score > positive * (1 - self.relative_margin)):
            return "candidates too near to the positive"
        return ""


def _check(good: bool, wrong: str) -> None:
    if not good:
        raise InputError(wrong)
