"""Intervals and tests: by hand, and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rerank import significance
from rerank.errors import InputError
from rerank.significance import holm, interval, paired

RNG = np.random.default_rng(7)
OURS, THEIRS = RNG.random(40), RNG.random(40) * 0.8


def by_query(values):
    return {f"q{index:03}": float(value) for index, value in enumerate(values)}


def test_the_interval_is_scipys_percentile_bootstrap():
    found = interval(OURS, level=0.9, resamples=2_000, seed=3)

    rng = np.random.default_rng(3)
    theirs = stats.bootstrap((OURS,), np.mean, method="percentile", confidence_level=0.9, n_resamples=2_000, rng=rng)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval))
    assert (found.level, found.resamples, found.seed) == (0.9, 2_000, 3)


def test_the_interval_of_two_queries_is_known_by_hand():
    # resampling 0 and 1 gives the means 0, 0.5, 1 with chances 1/4, 1/2, 1/4
    wide, narrow = interval([0.0, 1.0], level=0.95), interval([0.0, 1.0], level=0.4)

    assert (wide.low, wide.high) == (0.0, 1.0)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_the_same_seed_gives_the_same_interval_in_batches_too(monkeypatch):
    whole = interval(OURS, seed=5)
    monkeypatch.setattr(significance, "_BATCH_CELLS", 40 * 1_000)

    assert interval(OURS, seed=5) == whole
    assert interval(OURS, seed=6) != whole


@pytest.mark.parametrize("values", [[0.3], [0.3] * 10])
def test_one_query_or_equal_ones_give_an_interval_of_no_width(values):
    found = interval(values)

    assert (found.low, found.high) == (0.3, 0.3)


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        ([], {}, "there is no value to resample"),
        ([0.1, math.nan], {}, "one of the 2 values is nan"),
        ([0.1], {"level": 1.0}, "the level of an interval is 1.0"),
        ([0.1], {"resamples": 0}, "0 resamples say nothing"),
        ([0.1, 0.2], {"resamples": 10.5}, r"10\.5 resamples say nothing; choose a whole number"),
        ([0.1, 0.2], {"resamples": True}, "True resamples say nothing"),
        ([1e308, 0.1], {}, r"one of the 2 values is 1e\+308; 1e\+100 is the largest"),
    ],
)
def test_an_interval_of_nonsense_is_refused(values, options, words):
    with pytest.raises(InputError, match=words):
        interval(values, **options)


def test_few_queries_are_tested_exactly():
    # of the 8 assignments of 1, 2 and 4 only +++ and --- are as far from zero as 7
    found = paired(by_query([1.0, 2.0, 4.0]), by_query([0.0, 0.0, 0.0]))

    assert found.p_randomisation == 2 / 8
    assert found.difference == pytest.approx(7 / 3)


def test_the_exact_test_is_scipys():
    found = paired(by_query(OURS[:9]), by_query(THEIRS[:9]))

    def mean(data, axis):
        return np.abs(np.mean(data, axis=axis))

    differences = (OURS[:9] - THEIRS[:9],)
    theirs = stats.permutation_test(differences, mean, permutation_type="samples", alternative="greater")
    assert found.p_randomisation == theirs.pvalue


def test_many_queries_are_tested_by_seeded_draws_near_scipys():
    first, again, other = (paired(by_query(OURS), by_query(THEIRS), seed=seed) for seed in (1, 1, 2))

    def mean(data, axis):
        return np.abs(np.mean(data, axis=axis))

    rng = np.random.default_rng(0)
    theirs = stats.permutation_test(
        (OURS - THEIRS,), mean, permutation_type="samples", alternative="greater", n_resamples=10_000, rng=rng
    )
    assert first == again
    assert first.p_randomisation != other.p_randomisation
    assert first.p_randomisation == pytest.approx(theirs.pvalue, abs=4 * math.sqrt(theirs.pvalue / 10_000))


def test_draws_never_give_a_p_of_zero():
    found = paired(by_query(np.linspace(0.5, 0.9, 30)), by_query(np.zeros(30)), resamples=999)

    assert found.p_randomisation == 1 / 1_000


def test_the_t_test_is_scipys():
    found = paired(by_query(OURS), by_query(THEIRS))

    assert found.p_t == pytest.approx(stats.ttest_rel(OURS, THEIRS).pvalue)


def test_the_t_test_is_the_one_computed_by_hand():
    # differences 1, 2, 3: mean 2, deviation 1, t = 2 √3 with 2 degrees of freedom: p = 1 − t / √(t² + 2)
    found = paired(by_query([1.0, 2.0, 3.0]), by_query([0.0, 0.0, 0.0]))

    t = 2 * math.sqrt(3)
    assert found.p_t == pytest.approx(1 - t / math.sqrt(t * t + 2))


def test_no_difference_anywhere_has_p_one():
    found = paired(by_query(OURS), by_query(OURS))

    assert (found.difference, found.p_randomisation, found.p_t) == (0.0, 1.0, 1.0)
    assert (found.wins, found.ties, found.losses) == (0, 40, 0)
    assert (found.interval.low, found.interval.high) == (0.0, 0.0)


def test_the_same_difference_everywhere_has_p_t_zero_despite_rounding():
    # 0.7 − 0.6 and 0.3 − 0.2 differ in their last bits
    found = paired(by_query([0.7, 0.3, 0.5]), by_query([0.6, 0.2, 0.4]))

    assert found.p_t == 0.0
    assert found.p_randomisation == 2 / 8
    assert found.interval.low == found.interval.high == pytest.approx(0.1)


def test_rounding_noise_neither_wins_nor_loses():
    found = paired(by_query([0.1 + 0.2, 0.5]), by_query([0.3, 0.4]))

    assert (found.wins, found.ties, found.losses) == (1, 1, 0)


def test_a_nan_of_the_t_test_is_an_error(monkeypatch):
    monkeypatch.setattr(stats, "ttest_rel", lambda ours, theirs: _Nan())

    with pytest.raises(InputError, match="the t-test over 40 queries gives nan"):
        paired(by_query(OURS), by_query(THEIRS))


class _Nan:
    pvalue = math.nan


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=2, max_size=30))
def test_sides_can_be_swapped_and_p_stays_between_zero_and_one(pairs):
    ours, theirs = by_query([a / 10 for a, _ in pairs]), by_query([b / 10 for _, b in pairs])

    forth = paired(ours, theirs, resamples=200)
    back = paired(theirs, ours, resamples=200)

    assert forth.difference == -back.difference
    assert (forth.wins, forth.losses) == (back.losses, back.wins)
    assert forth.p_randomisation == back.p_randomisation
    assert 0 < forth.p_randomisation <= 1
    assert 0 <= forth.p_t <= 1


def test_the_largest_values_are_compared():
    found = paired(by_query([1e100, -1e100, 3.0]), by_query([-1e100, 1e100, 1.0]), resamples=200)

    assert (found.wins, found.losses) == (2, 1)
    assert math.isfinite(found.difference)
    assert 0 < found.p_randomisation <= 1
    assert 0 <= found.p_t <= 1
    assert -2e100 <= found.interval.low <= found.difference <= found.interval.high <= 2e100


def test_the_order_in_which_queries_come_does_not_matter():
    ours, theirs = by_query(OURS), by_query(THEIRS)

    assert paired(dict(reversed(ours.items())), theirs) == paired(ours, theirs)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ({"a": 1.0, "b": 1.0}, {"a": 1.0}, "query 'b' is on one side only"),
        ({"a": 1.0}, {"a": 0.0}, "a paired test needs at least two queries; there is 1"),
        ({"a": 1.0, "b": math.nan}, {"a": 0.0, "b": 0.0}, "one of the 2 values is nan"),
        ({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": -1e300}, r"one of the 2 values is -1e\+300; 1e\+100 is the largest"),
    ],
)
def test_what_cannot_be_paired_is_refused(ours, theirs, words):
    with pytest.raises(InputError, match=words):
        paired(ours, theirs)


def test_holms_correction_is_the_one_computed_by_hand():
    # sorted: .01 × 4, .02 × 3, .03 × 2 (= .06, no less than before), .04 × 1 (lifted to .06)
    assert holm({"a": 0.03, "b": 0.01, "c": 0.04, "d": 0.02}) == pytest.approx(
        {"a": 0.06, "b": 0.04, "c": 0.06, "d": 0.06}
    )
    assert holm({"a": 0.6, "b": 0.5}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.2}) == {"a": 0.2}
    assert holm({}) == {}


@pytest.mark.parametrize("p", [math.nan, -0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(InputError, match="the p-value of 'a' is"):
        holm({"a": p})
