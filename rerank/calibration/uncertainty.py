"""How far distributions of scores are from what happened: pairs of documents, and who is more relevant."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from rerank.calibration.curves import Values
from rerank.calibration.quality import BINS, quality
from rerank.errors import InputError

__all__ = ["ranking_calibration_error"]


def ranking_calibration_error(
    samples: Sequence[Sequence[float]], relevance: Sequence[int], *, bins: int = BINS
) -> float:
    """Expected ranking calibration error (ERCE) of one query's documents, from 0, the best, to 1.

    For every pair of documents of different relevance, the share of pairs of their samples in which one is higher is
    how sure the ranker is of it; how often it is right is compared with that, bin by bin, as ECE does (Cohen et al.,
    2021, https://arxiv.org/abs/2105.04651). Equal samples count for both.

    Args:
        samples: each document's scores.
        relevance: each document's, in the same order.
        bins: of equal width, over confidences from 0.5 to 1.

    Raises:
        InputError: when the two differ in number, or no two documents differ in relevance.
    """
    if len(samples) != len(relevance):
        raise InputError(f"{len(samples)} documents have samples and {len(relevance)} a relevance; give both of each")
    pairs = [(i, j) for i, j in combinations(range(len(samples)), 2) if relevance[i] != relevance[j]]
    if not pairs:
        raise InputError("no two documents differ in relevance, so that no order is right or wrong")
    scores = [np.asarray(each, dtype=float) for each in samples]
    better = np.array([_above(scores[i], scores[j]) for i, j in pairs])
    true = np.array([float(relevance[i] > relevance[j]) for i, j in pairs])
    sure = np.maximum(better, 1.0 - better)
    right = np.where(better == 0.5, 0.5, (better > 0.5) == (true > 0.5))
    return quality(sure, right.astype(float), bins=2 * bins).ece


def _above(one: Values, other: Values) -> float:
    """The share of pairs of samples in which the first is higher."""
    difference = one[:, None] - other[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())
