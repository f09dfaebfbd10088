"""Suites as data, the mean over groups, the frontier."""

from __future__ import annotations

import pytest

from rerank.datasets import catalogue
from rerank.errors import ConfigError
from rerank.evaluate import evaluate
from rerank.suite import DatasetResult, Results, Suite, known
from rerank.suite.costs import Cost
from rerank.suite.frontier import frontier

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
