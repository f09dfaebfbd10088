"""Fusion by hand, and what must hold for every method."""

from __future__ import annotations

import doctest
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.errors import InputError, UnknownName
from rerank.fusion import METHODS, MOST_TRIED, fuse, tune

FIRST = {"q": {"a": 10.0, "b": 6.0, "c": 2.0}}
SECOND = {"q": {"b": 0.9, "d": 0.5, "a": 0.4}}


def test_rrf_by_hand():
    fused = fuse([FIRST, SECOND])["q"]

    assert fused == pytest.approx({"b": 1 / 62 + 1 / 61, "a": 1 / 61 + 1 / 63, "d": 1 / 62, "c": 1 / 63})
    assert list(fused) == ["b", "a", "d", "c"]


def test_rrf_reads_k():
    assert fuse([FIRST, SECOND], "rrf", k=0)["q"]["b"] == 1 / 2 + 1 / 1


def test_combsum_by_hand():
    # normalised: a 1, b .5, c 0 and b 1, d .2, a 0
    fused = fuse([FIRST, SECOND], "combsum")["q"]

    assert fused == pytest.approx({"b": 1.5, "a": 1.0, "d": 0.2, "c": 0.0})
    assert list(fused) == ["b", "a", "d", "c"]


def test_scores_from_one_end_of_the_floats_to_the_other_are_normalised():
    run = {"q": {"a": 1e308, "b": 0.0, "c": -1e308}}

    assert fuse([run, SECOND], "combsum")["q"] == pytest.approx({"b": 1.5, "a": 1.0, "d": 0.2, "c": 0.0})


def test_combmnz_by_hand():
    assert fuse([FIRST, SECOND], "combmnz")["q"] == pytest.approx({"b": 3.0, "a": 2.0, "d": 0.2, "c": 0.0})


def test_weighted_by_hand():
    fused = fuse([FIRST, SECOND], "weighted", weights=[0.75, 0.25])["q"]

    assert fused == pytest.approx({"a": 0.75, "b": 0.625, "d": 0.05, "c": 0.0})
    assert list(fused) == ["a", "b", "d", "c"]


def test_borda_by_hand():
    # four documents: 3, 2, 1 points for those held, the one left over gets what is left, 0
    assert fuse([FIRST, SECOND], "borda")["q"] == {"b": 5.0, "a": 4.0, "d": 2.0, "c": 1.0}


def test_documents_that_a_run_lacks_share_the_borda_points_it_has_left():
    # five documents: the first run gives 4 to a; b, c, d and e share 3 + 2 + 1 + 0
    fused = fuse([{"q": {"a": 1.0}}, {"q": {"b": 5.0, "c": 4.0, "d": 3.0, "e": 2.0}}], "borda")["q"]

    assert fused == {"b": 5.5, "c": 4.5, "a": 4.0, "d": 3.5, "e": 2.5}


def test_weights_count_in_every_method():
    assert fuse([FIRST, SECOND], "rrf", weights=[2.0, 0.0])["q"] == pytest.approx(
        {"a": 2 / 61, "b": 2 / 62, "c": 2 / 63, "d": 0.0}
    )


@pytest.mark.parametrize("scores", [{"a": 3.0}, {"a": 3.0, "b": 3.0}])
def test_constant_scores_become_one_above_what_was_not_retrieved(scores):
    fused = fuse([{"q": scores}, {"q": {"x": 2.0, "y": 1.0}}], "combsum")["q"]

    assert all(fused[doc_id] == 1.0 for doc_id in scores)


def test_queries_are_fused_from_the_runs_that_have_them():
    fused = fuse([{"q1": {"a": 1.0}}, {"q2": {"b": 1.0}, "q1": {}}], "rrf")

    assert fused == {"q1": {"a": 1 / 61}, "q2": {"b": 1 / 61}}


def test_ties_go_to_the_better_rank_in_the_first_run_that_holds_the_document():
    mirrored = fuse([{"q": {"a": 2.0, "b": 1.0}}, {"q": {"b": 2.0, "a": 1.0}}])["q"]
    apart = fuse([{"q": {"z": 1.0}}, {"q": {"a": 1.0}}])["q"]

    assert list(mirrored) == ["a", "b"]
    assert list(apart) == ["z", "a"]


def test_equal_sums_tie_whatever_the_order_of_their_terms():
    # 1/61 + 1/62 + 1/63 in three orders: plain float sums differ in the last bit
    runs = [{"q": dict.fromkeys(order, 1.0)} for order in ("abc", "bca", "cab")]

    assert len(set(fuse(runs)["q"].values())) == 1


runs = st.lists(
    st.dictionaries(
        st.sampled_from(["q1", "q2"]),
        st.lists(st.sampled_from("abcdef"), unique=True, max_size=6).map(
            lambda ids: {doc_id: float(-index) for index, doc_id in enumerate(ids)}
        ),
    ),
    min_size=2,
    max_size=4,
)


@given(runs=runs, method=st.sampled_from(sorted(METHODS)))
def test_every_document_comes_out_once_best_first(runs, method):
    fused = fuse(runs, method, weights=[1.0] * len(runs))

    for query_id, scores in fused.items():
        assert set(scores) == {doc_id for run in runs for doc_id in run.get(query_id, {})}
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert set(fused) == {query_id for run in runs for query_id in run}


@given(st.permutations("abcdef"), st.sampled_from(sorted(METHODS)))
def test_runs_that_agree_keep_their_order(order, method):
    run = {"q": {doc_id: float(-index) for index, doc_id in enumerate(order)}}

    assert list(fuse([run, run, run], method, weights=[1.0, 2.0, 3.0])["q"]) == list(order)


def test_an_unknown_method_is_named():
    with pytest.raises(UnknownName, match="no fusion method is called 'rff'; did you mean 'rrf'"):
        fuse([FIRST, SECOND], "rff")


@pytest.mark.parametrize(
    ("given_runs", "options", "words"),
    [
        ([], {}, "fusion needs two runs or more; there are none"),
        ([FIRST], {}, "fusion needs two runs or more; there is 1"),
        ([FIRST, SECOND], {"weights": [1.0]}, "there are 2 runs but 1 weights"),
        (
            [FIRST, SECOND],
            {"method": "combsum", "weights": [1.5e308, 1.5e308]},
            "fused scores become infinite; make all",
        ),
        ([FIRST, SECOND], {"method": "combmnz", "weights": [1e308, 1e307]}, "fused scores become infinite; make all"),
        ([FIRST, SECOND], {"method": "borda", "weights": [1e308, 0.0]}, "fused scores become infinite; make all"),
        ([FIRST, SECOND], {"weights": [1.0, -1.0]}, "they must be 0 or more"),
        ([FIRST, SECOND], {"weights": [0.0, 0.0]}, "one of them above 0"),
        ([FIRST, SECOND], {"method": "weighted"}, "needs weights, one for each of the 2 runs"),
        ([FIRST, SECOND], {"k": -1}, "k is -1"),
        ([FIRST, {"q": {"a": math.inf}}], {}, "document 'a' of query 'q' has the score inf"),
    ],
)
def test_what_cannot_be_fused_is_refused(given_runs, options, words):
    with pytest.raises(InputError, match=words):
        fuse(given_runs, **options)


def test_the_page_about_fusing_is_true():
    page = Path(__file__).parents[2] / "docs" / "fuse.md"

    found = doctest.testfile(str(page), module_relative=False)

    assert (found.failed, found.attempted > 0) == (0, True)


def good_at(wanted: str):
    """A value that is highest where a document leads, and the further it leads."""
    return lambda fused: fused["q"][wanted] - max(score for doc_id, score in fused["q"].items() if doc_id != wanted)


def test_tuned_weights_are_those_that_do_best():
    tuned = tune([FIRST, SECOND], good_at("a"))

    # a leads b by w − (w / 2 + 1 − w) = 1.5 w − 1
    assert tuned.weights == (1.0, 0.0)
    assert tuned.value == pytest.approx(0.5)
    assert tuned.equal == pytest.approx(-0.25)
    assert tuned.tried == 11


def test_among_weights_that_do_as_well_the_most_even_ones_are_taken():
    assert tune([FIRST, SECOND], lambda fused: 1.0).weights == (0.5, 0.5)


@pytest.mark.parametrize(("count", "step"), [(2, 0.1), (3, 0.1), (4, 0.1), (5, 1 / 6), (8, 1 / 3), (400, 1)])
def test_weights_that_are_tried_cover_all_mixtures_and_are_not_too_many(count, step):
    from rerank.fusion import _mixtures

    tried = list(_mixtures(count))

    assert len(tried) == len(set(tried)) <= max(MOST_TRIED, count)
    assert all(sum(weights) == pytest.approx(1) for weights in tried)
    assert min(weight for weights in tried for weight in weights if weight) == pytest.approx(step)
