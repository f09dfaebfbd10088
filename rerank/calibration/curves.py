"""From a score to a probability: curves that never fall, so that no order is changed.

Each fit takes scores and labels (1 relevant, 0 not) and gives a curve; a curve is its numbers, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rerank.errors import InputError
from rerank.registry import unknown

__all__ = ["METHODS", "Curve", "Isotonic", "Sigmoid", "Values", "curve_of", "fit_curve"]

Values: TypeAlias = NDArray[np.float64]

TEMPERATURES = (1e-3, 1e3)
"""Where a temperature is looked for; scores that separate the classes perfectly want the least one there is."""


class Curve(Protocol):
    """Scores to probabilities."""

    def __call__(self, scores: Values) -> Values:
        """P(relevant) of each score; never falls where the score rises."""

    def as_dict(self) -> dict[str, list[float]]:
        """Its numbers, for JSON."""

    @property
    def rises(self) -> bool:
        """False when every score gets the same probability."""


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """P = 1 / (1 + exp(−(slope · score + intercept)))."""

    slope: float
    intercept: float = 0.0

    def __call__(self, scores: Values) -> Values:
        from scipy.special import expit

        found: Values = expit(self.slope * scores + self.intercept)
        return found

    def as_dict(self) -> dict[str, list[float]]:
        """Its numbers, for JSON."""
        return {"slope": [self.slope], "intercept": [self.intercept]}

    @property
    def rises(self) -> bool:
        """Whether a higher score gets a higher probability."""
        return self.slope > 0


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Straight lines between points; below the first and above the last it is level."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, scores: Values) -> Values:
        return np.interp(scores, self.scores, self.probabilities)

    def as_dict(self) -> dict[str, list[float]]:
        """Its numbers, for JSON."""
        return {"scores": list(self.scores), "probabilities": list(self.probabilities)}

    @property
    def rises(self) -> bool:
        """Whether a higher score ever gets a higher probability."""
        return self.probabilities[-1] > self.probabilities[0]


def platt(scores: Values, labels: Values) -> Sigmoid:
    """A slope and an intercept of least cross-entropy, the labels drawn in a little (Platt, 1999).

    With n₊ relevant examples and n₋ others, the targets are (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2), so that few examples
    that are easily told apart give no certainty. The slope is at least 0.
    """
    from scipy.optimize import minimize

    relevant = labels.sum()
    targets = np.where(labels == 1, (relevant + 1) / (relevant + 2), 1 / (len(labels) - relevant + 2))
    centre, spread = scores.mean(), scores.std() or 1.0
    standard = (scores - centre) / spread  # the search wants numbers near 1

    def cross_entropy(numbers: Values) -> tuple[float, Values]:
        from scipy.special import expit

        logits = numbers[0] * standard + numbers[1]
        wrong = expit(logits) - targets
        loss = (np.logaddexp(0, logits) - targets * logits).mean()
        return float(loss), np.array([(wrong * standard).mean(), wrong.mean()])

    found = minimize(
        cross_entropy,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
    )
    slope = float(found.x[0] / spread)
    return Sigmoid(slope, float(found.x[1] - slope * centre))


def temperature(scores: Values, labels: Values) -> Sigmoid:
    """One number that all scores are divided by, of least cross-entropy (Guo et al., 2017).

    A score of 0 stays a probability of one half: for models whose logit means what it says but for its size.
    """
    from scipy.optimize import minimize_scalar

    def cross_entropy(log_temperature: float) -> float:
        logits = scores * np.exp(-log_temperature)
        return float((np.logaddexp(0, logits) - labels * logits).mean())

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(cross_entropy, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    return Sigmoid(float(np.exp(-found.x)))


def isotonic(scores: Values, labels: Values) -> Isotonic:
    """The never-falling curve of least squared error (pool adjacent violators), equal scores pooled first."""
    from scipy.optimize import isotonic_regression

    distinct, place = np.unique(scores, return_inverse=True)
    count = np.bincount(place)
    means = np.bincount(place, weights=labels) / count
    fitted = isotonic_regression(means, weights=count).x
    first = np.r_[True, fitted[1:] != fitted[:-1]]  # the two ends of a level are all that is needed of it
    ends = first | np.r_[first[1:], True]
    return Isotonic(tuple(distinct[ends].tolist()), tuple(np.clip(fitted[ends], 0, 1).tolist()))


METHODS: Mapping[str, Callable[[Values, Values], Curve]] = {
    "platt": platt,
    "temperature": temperature,
    "isotonic": isotonic,
}
"""How a curve may be fitted."""


def fit_curve(method: str, scores: Values, labels: Values) -> Curve:
    """The curve that a method fits.

    Raises:
        UnknownName: when there is no such method.
        InputError: when there are no relevant examples, or no others.
    """
    if method not in METHODS:
        raise unknown("calibration method", method, METHODS)
    relevant = int(labels.sum())
    if not 0 < relevant < len(labels):
        raise InputError(
            f"{relevant} of {len(labels)} examples are relevant; a calibration needs relevant ones and others"
        )
    return METHODS[method](scores, labels)


def curve_of(numbers: Mapping[str, list[float]]) -> Curve:
    """A curve from what `as_dict` gave.

    Raises:
        InputError: when these are no numbers of a curve.
    """
    try:
        if "slope" in numbers:
            return _finite(Sigmoid(*map(float, (*numbers["slope"], *numbers["intercept"]))))
        curve = Isotonic(tuple(map(float, numbers["scores"])), tuple(map(float, numbers["probabilities"])))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{numbers!r} is no curve; fit the calibration again") from error
    return _finite(curve)


def _finite(curve: Sigmoid | Isotonic) -> Curve:
    values = [number for part in curve.as_dict().values() for number in part]
    rising = all(np.all(np.diff(part) >= 0) for part in curve.as_dict().values()) and bool(values)
    lengths = {len(part) for part in curve.as_dict().values()}
    if not np.isfinite(values).all() or len(lengths) != 1 or not rising:
        raise InputError(f"{curve!r} is no curve that never falls; fit the calibration again")
    if isinstance(curve, Sigmoid) and curve.slope < 0:
        raise InputError(f"{curve!r} falls where the score rises; fit the calibration again")
    return curve
