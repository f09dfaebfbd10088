"""How good probabilities are: how far they are from what happened, and which of them to keep.

Probabilities and labels are [examples]; a label is 1 for relevant and 0 for not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from rerank.calibration.curves import Values
from rerank.errors import InputError

__all__ = ["BINS", "Bin", "Quality", "Threshold", "quality", "reliability", "threshold_for"]

BINS = 10
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Quality:
    """How far probabilities are from what happened.

    Args:
        ece: expected calibration error: the mean over examples of |share of relevant ones − mean probability| of the
            example's bin; 0 is best.
        brier: the mean squared difference of probability and label; 0 is best.
        examples: how many.
    """

    ece: float
    brier: float
    examples: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Examples of about the same probability: a point of the reliability diagram."""

    low: float
    high: float
    examples: int
    probability: float
    relevant: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where to cut, and what was seen there.

    Args:
        probability: keep what has at least this.
        precision: the share of relevant ones among the examples kept.
        low, high: the Wilson interval of that share, were examples independent; those of one query are not quite.
        kept: examples with at least the probability.
        relevant: the relevant ones among them.
        recall: the share of all relevant examples that is kept.
        examples: how many there were in all.
    """

    probability: float
    precision: float
    low: float
    high: float
    kept: int
    relevant: int
    recall: float
    examples: int

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def quality(probabilities: Values, labels: Values, *, bins: int = BINS) -> Quality:
    """ECE over bins of equal width, and the Brier score.

    Raises:
        InputError: when there is no example, or a probability is not between 0 and 1.
    """
    found = reliability(probabilities, labels, bins=bins)
    gaps = sum(one.examples * abs(one.relevant - one.probability) for one in found)
    brier = float(((probabilities - labels) ** 2).mean())
    return Quality(gaps / len(labels), brier, len(labels))


def reliability(probabilities: Values, labels: Values, *, bins: int = BINS) -> list[Bin]:
    """The bins that hold examples, in rising order; a bin holds its lower end, the last one both.

    Raises:
        InputError: as `quality` does.
    """
    if bins < 1 or not len(labels) or len(labels) != len(probabilities):
        raise InputError(
            f"{len(probabilities)} probabilities, {len(labels)} labels and {bins} bins; give as many of the first two, "
            "and at least one of each"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise InputError("a probability is not between 0 and 1; calibrate the scores first")
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    return [
        Bin(
            number / bins,
            (number + 1) / bins,
            int((place == number).sum()),
            float(probabilities[place == number].mean()),
            float(labels[place == number].mean()),
        )
        for number in np.unique(place).tolist()
    ]


def threshold_for(probabilities: Values, labels: Values, *, precision: float) -> Threshold:
    """The lowest threshold whose precision is at least the one asked for: it keeps the most.

    Raises:
        InputError: when no threshold reaches it, or it is not between 0 and 1.
    """
    if not 0 < precision <= 1:
        raise InputError(f"a precision of {precision} cannot be had; ask for one above 0, and at most 1")
    order = np.argsort(-probabilities, kind="stable")
    sorted_probabilities = probabilities[order]
    relevant = np.cumsum(labels[order])
    kept = np.arange(1, len(order) + 1)
    last = np.r_[sorted_probabilities[1:] < sorted_probabilities[:-1], True]  # equal ones are kept together
    reached = np.flatnonzero((relevant >= precision * kept - 1e-9) & last)
    if not len(reached):
        best = float((relevant / kept)[last].max())
        raise InputError(f"no threshold has a precision of {precision}; the best of these examples has {best:.3f}")
    return _threshold(int(reached[-1]), sorted_probabilities, relevant)


def _threshold(index: int, probabilities: Values, relevant: Values) -> Threshold:
    from scipy.stats import binomtest

    kept, good = index + 1, int(relevant[index])
    interval = binomtest(good, kept).proportion_ci(LEVEL, method="wilson")
    return Threshold(
        probability=float(probabilities[index]),
        precision=good / kept,
        low=float(interval.low),
        high=float(interval.high),
        kept=kept,
        relevant=good,
        recall=good / float(relevant[-1]),
        examples=len(probabilities),
    )
