"""Scores as numbers from 0 to 1, the higher the better, by what is known of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from rerank.questions import Grade
from rerank.rerankers.reranker import Reranker
from rerank.types import Ranking

__all__ = ["RANK_ONLY", "meaning", "relevances"]

RANK_ONLY = "rank only"


def _sigmoid(logit: float) -> float:
    """1 / (1 + exp(−logit)), without overflow."""
    return 1 / (1 + math.exp(-max(logit, -700.0)))


CURVES: Mapping[str, Callable[[float], float]] = {
    "logit": _sigmoid,
    "log-probability": lambda score: math.exp(min(0.0, score)),
    "probability": lambda score: min(1.0, max(0.0, score)),
}
"""By the `scale` of a judge."""


def meaning(reranker: Reranker, *, calibrated: bool = True) -> str:
    """What the scores of a response are: "calibrated", a judge's `scale`, or "rank only"."""
    if calibrated and reranker.calibration is not None:
        return "calibrated"
    scale = getattr(reranker.judge, "scale", "")
    pointwise = reranker.algorithm.name == "pointwise" and reranker.algorithm.asks == {Grade}
    return scale if pointwise and scale in CURVES else RANK_ONLY


def relevances(ranking: Ranking, reranker: Reranker, *, calibrated: bool = True) -> tuple[list[float], str]:
    """A number in [0, 1] for each candidate, in the order of the ranking, and what the numbers are.

    The calibrated probability, else the sigmoid of a logit (or what comes to the same: the probability whose logarithm
    was measured), else 1 − (rank − 1) / n. Of a ranking with candidates that were not scored, all get numbers by rank.

    Args:
        ranking: with the scores that were measured.
        reranker: whose they are.
        calibrated: False where its calibration does not hold, because documents were read in another way.
    """
    means = meaning(reranker, calibrated=calibrated)
    scores = [candidate.score for candidate in ranking if candidate.score is not None]
    if means == RANK_ONLY or len(scores) < len(ranking):
        return [1 - rank / len(ranking) for rank in range(len(ranking))], RANK_ONLY
    if means == "calibrated":
        assert reranker.calibration is not None
        applied = reranker.calibration.apply(ranking)
        return [candidate.score or 0.0 for candidate in applied], means
    return [CURVES[means](score) for score in scores], means
