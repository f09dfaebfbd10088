"""How sure a difference is: bootstrap intervals, paired tests and Holm's correction.

Everything here works on per-query values and is deterministic: every draw comes from the seed, which travels with the
result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rerank.errors import InputError

__all__ = ["LEVEL", "RESAMPLES", "SEED", "Comparison", "Interval", "holm", "interval", "paired"]

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 0

_BATCH_CELLS = 4_000_000  # resamples times queries that are held at once: about 32 MB
_DECIMALS = 10  # differences are kept to this many: far below what a measure means, far above what floats round
_LARGEST = 1e100  # squares and sums of larger values leave the floats, and no measure is near it

Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a mean over queries would lie if other queries of the kind were asked."""

    low: float
    high: float
    level: float
    resamples: int
    seed: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A system against a baseline, query by query.

    Args:
        difference: the mean over queries of system − baseline.
        p_randomisation: two-sided p of the paired randomisation test.
        p_t: two-sided p of the paired t-test, to be read beside it.
        wins, ties, losses: queries where the system is better, equal, worse.
        interval: the bootstrap interval of the difference.
    """

    difference: float
    p_randomisation: float
    p_t: float
    wins: int
    ties: int
    losses: int
    interval: Interval

    def as_dict(self) -> dict[str, Any]:
        """The comparison for `--json`."""
        return asdict(self)


def interval(
    values: Iterable[float], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The percentile bootstrap interval of the mean over queries.

    One query says nothing about others: its interval is its value, as it is when all queries have the same value,
    because every resample has that mean.

    Args:
        values: one per query; their order matters to the last digits.
        level: the share of resampled means that lie inside, between 0 and 1.
        resamples: how many times as many queries are drawn, with replacement.
        seed: of the draws.

    Raises:
        InputError: when there is no value, one is not finite or beyond ±1e100, or `level` or `resamples` make no sense.
    """
    return _interval(_checked(values, level=level, resamples=resamples), level, resamples, seed)


def paired(
    values: Mapping[str, float],
    baseline: Mapping[str, float],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Comparison:
    """A system's per-query values against a baseline's.

    The randomisation test asks how often a difference as large comes about when, for each query by itself, chance
    decides which of the two values is whose (Smucker et al., 2007, https://doi.org/10.1145/1321440.1321528). Where
    2 ** queries is at most `resamples`, every assignment is tried and p is exact; else p = (extreme + 1) /
    (resamples + 1), which is never 0.

    Rules for what the t-test leaves undefined: no query differs, p = 1 (both tests); all queries differ by the same
    amount, p_t = 0, the limit of a vanishing variance.

    Args:
        values: query_id -> the system's value.
        baseline: query_id -> the baseline's value, for the same queries.
        level: of the interval of the difference, between 0 and 1.
        resamples: of the interval, and of the test where it cannot be exact.
        seed: of both.

    Raises:
        InputError: when the queries are not the same, are fewer than two, or a value is not finite or beyond ±1e100.
    """
    _check_same_queries(values, baseline)
    ids = sorted(values)
    ours = _checked((values[query_id] for query_id in ids), level=level, resamples=resamples)
    theirs = _checked((baseline[query_id] for query_id in ids), level=level, resamples=resamples)
    differences = np.round(ours - theirs, _DECIMALS)
    return Comparison(
        difference=math.fsum(differences) / len(ids),
        p_randomisation=_randomisation(differences, resamples, seed),
        p_t=_t_test(ours, theirs, differences),
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
        interval=_interval(differences, level, resamples, seed),
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction: p-values that keep the chance of any false alarm among them at their level.

    The smallest of m is multiplied by m, the next by m − 1, and so on; none may fall below the one before it or rise
    above 1 (Holm, 1979). They come back under their names, in the order given.

    Raises:
        InputError: when a p-value is not between 0 and 1.
    """
    for name, p in p_values.items():
        if not 0 <= p <= 1:  # nan fails this too
            raise InputError(f"the p-value of {name!r} is {p}; it must be between 0 and 1")
    adjusted: dict[str, float] = {}
    floor = 0.0
    for done, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        floor = max(floor, min(1.0, p_values[name] * (len(p_values) - done)))
        adjusted[name] = floor
    return {name: adjusted[name] for name in p_values}


def _checked(values: Iterable[float], *, level: float, resamples: int) -> Values:
    if not 0 < level < 1:
        raise InputError(f"the level of an interval is {level}; it must lie between 0 and 1, such as 0.95")
    if not isinstance(resamples, Integral) or isinstance(resamples, bool) or resamples < 1:
        raise InputError(f"{resamples!r} resamples say nothing; choose a whole number from 1, such as {RESAMPLES}")
    data = np.fromiter(values, dtype=np.float64)
    if not len(data):
        raise InputError("there is no value to resample; a mean needs at least one query")
    if not np.isfinite(data).all():
        raise InputError(f"one of the {len(data)} values is {data[~np.isfinite(data)][0]}; all must be finite")
    if (abs(data) > _LARGEST).any():
        raise InputError(f"one of the {len(data)} values is {data[abs(data) > _LARGEST][0]}; {_LARGEST} is the largest")
    return data


def _check_same_queries(values: Mapping[str, float], baseline: Mapping[str, float]) -> None:
    if odd := sorted(values.keys() ^ baseline.keys()):
        raise InputError(f"query {odd[0]!r} is on one side only; a paired test needs the same queries on both")
    if len(values) < 2:
        raise InputError(f"a paired test needs at least two queries; there is {len(values)}")


def _interval(data: Values, level: float, resamples: int, seed: int) -> Interval:
    low = high = float(data[0])
    if (data != data[0]).any():
        low, high = _percentiles(data, level, resamples, seed)
    return Interval(low, high, level, resamples, seed)


def _percentiles(data: Values, level: float, resamples: int, seed: int) -> tuple[float, float]:
    from scipy.stats import bootstrap

    found = bootstrap(
        (data,),
        np.mean,
        method="percentile",
        confidence_level=level,
        n_resamples=resamples,
        batch=_batch(len(data)),
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _randomisation(differences: Values, resamples: int, seed: int) -> float:
    """The share of sign flips whose mean is as far from zero.

    scipy's permutation_test gives the same p and takes seven to twelve times as long.
    """
    whole = np.rint(differences * 10**_DECIMALS)  # whole numbers: their sums are exact, so that equal sums are equal
    observed = abs(whole.sum())
    if 2 ** len(whole) <= resamples:
        return float((abs(_all_signs(len(whole)) @ whole) >= observed).mean())
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, resamples, _batch(len(whole))):
        rows = min(_batch(len(whole)), resamples - start)
        flips = rng.integers(0, 2, size=(rows, len(whole)), dtype=np.int8)
        extreme += int((abs((2.0 * flips - 1.0) @ whole) >= observed).sum())
    return (extreme + 1) / (resamples + 1)


def _all_signs(count: int) -> Values:
    """Every assignment of +1 and −1: [2 ** count, count]."""
    bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    return np.where(bits, -1.0, 1.0)


def _t_test(ours: Values, theirs: Values, differences: Values) -> float:
    if not differences.any():
        return 1.0
    if (differences == differences[0]).all():
        return 0.0
    from scipy.stats import ttest_rel

    p = float(ttest_rel(ours, theirs).pvalue)
    if math.isnan(p):
        raise InputError(f"the t-test over {len(differences)} queries gives nan; are the values of a sensible size?")
    return p


def _batch(queries: int) -> int:
    return max(1, _BATCH_CELLS // queries)
