"""Suites as data, the mean over groups, the frontier."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rerank.datasets import catalogue
from rerank.errors import ConfigError
from rerank.evaluate import evaluate
from rerank.suite import DatasetResult, Results, Suite, known
from rerank.suite.costs import Cost
from rerank.suite.frontier import frontier
from rerank.suite.perturbed import Change
from rerank.suite.robustness import corrected, robustness, robustness_sheet

SIZES = {"beir": 18, "bright": 12, "dl": 5, "nano": 13}


def test_every_suite_is_here():
    assert known() == tuple(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_a_suite_names_datasets_of_the_catalogue_each_once(name):
    suite = Suite.load(name)

    assert set(suite.datasets) <= set(catalogue.known())
    assert len(set(suite.datasets)) == len(suite.datasets)
    grouped = sum(map(len, suite.groups.values()))
    assert len(suite.datasets) - grouped + len(suite.groups) == SIZES[name]


def test_a_group_names_no_stranger():
    with pytest.raises(ConfigError, match="names 'c', which is no dataset of the suite"):
        Suite("two", ("a", "b"), groups={"both": ("a", "c")})


def test_a_group_counts_once_in_the_mean():
    suite = Suite("three", ("a", "b", "c"), groups={"both": ("a", "b")}, name="three")
    values = {"a": 0.0, "b": 1.0, "c": 1.0}  # mean of the group .5, of all (.5 + 1) / 2

    results = Results(suite, "s", {name: _result(name, value) for name, value in values.items()}, {}, 0)

    assert results.mean("s") == 0.75
    assert results.means_sheet().rows[-2:] == [
        ["both (mean of 2 of 2)", "mean", "0.5000"],
        ["mean of 2", "mean", "0.7500"],
    ]


def test_the_frontier_is_what_nobody_beats():
    points = {"dear": (9.0, 0.5), "good": (3.0, 0.6), "cheap": (1.0, 0.2), "bad": (2.0, 0.1), "same": (3.0, 0.6)}

    assert frontier(points) == ["cheap", "good"]


def test_a_cost_of_which_a_part_is_unknown_is_not_told():
    known_cost = Cost({"q": {"flops": 6.0, "wall_seconds": 2.0}, "r": {"flops": 2.0, "wall_seconds": 4.0}})

    assert known_cost.a_query("flops") == 4.0
    assert (known_cost.waited(0.5), known_cost.waited(0.95)) == (2.0, 4.0)
    assert Cost({"q": {"flops": 6.0, "journal_hits": 1.0}}).a_query("flops") is None


def _result(name: str, value: float) -> DatasetResult:
    run = {"q": {"good": value, "bad": 0.5}}
    return DatasetResult(name, {"s": evaluate({"q": {"good": 1}}, run, ["P@1"])}, {"s": Cost({})}, ())


def test_what_a_perturbation_did_is_what_was_computed_by_hand():
    before = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "r": {"a": 2.0, "b": 1.0}, "s": {"a": 1.0}}
    after = {"q": {"c": 3.0, "b": 2.0, "a": 1.0}, "r": {"a": 3.0, "x": 2.0, "b": 1.0}}  # nothing was found for s
    qrels = {"q": {"a": 1}, "r": {"a": 1}, "s": {"a": 1}}
    evaluations = evaluate(qrels, before, ["RR@10"]), evaluate(qrels, after, ["RR@10"])
    changes = [Change("q", "?", True, "c"), Change("r", "?", True, "b"), Change("s", "?", False)]

    found = robustness("system", "kind", evaluations, (before, after), changes, seed=0)

    assert (found.before, found.after, found.changed) == (1.0, pytest.approx((1 / 3 + 1 + 0) / 3), 2)
    assert found.tau == pytest.approx((-1 + 1) / 2)
    assert found.moved == pytest.approx(((2 + 0 + 2) / 3 + (0 + 1) / 2) / 2)
    assert found.attackers == (2.5, 2.0)  # c from 3 to 1, b from 2 to 3
    # signs of two differences that are not zero: one assignment in two is as far from zero
    assert found.comparison.p_randomisation == pytest.approx(2 / 4)
    both = corrected([found, replace(found, kind="other")])
    assert [one.comparison.p_randomisation for one in both] == [1.0, 1.0]


def test_one_query_is_perturbed_without_a_test():
    run = {"q": {"a": 2.0, "b": 1.0}}
    evaluation = evaluate({"q": {"a": 1}}, run, ["RR@10"])

    found = robustness("system", "kind", (evaluation, evaluation), (run, run), [Change("q", "?", False)], seed=0)

    assert (found.comparison, found.tau, found.moved, found.attackers) == (None, pytest.approx(1), 0, None)
    assert corrected([found]) == [found]
    row = robustness_sheet({"set": [found]}, {"set": "RR@10"}, 0).rows[0]
    assert row == [
        "set",
        "RR@10",
        "system",
        "kind",
        "0",
        "1.0000",
        "1.0000",
        "+0.0000",
        "–",
        "–",
        "–",
        "1.000",
        "0.00",
        "–",
    ]
