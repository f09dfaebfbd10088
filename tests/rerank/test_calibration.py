"""Scores into probabilities: values by hand, the order kept, and what cannot be calibrated refused."""

from __future__ import annotations

import doctest
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank import Reranker
from rerank.calibration import METHODS, Calibration, Examples, fit, quality, reliability, threshold_for
from rerank.calibration.curves import Isotonic, Sigmoid, fit_curve
from rerank.errors import FileError, InputError, UnknownName
from rerank.judges.fake import Oracle
from rerank.types import Candidate, Document, Query, Ranking

COUNTS = [(1.0, 3, 4), (-1.0, 1, 4)]  # (score, relevant, examples)


def drawn(counts=COUNTS, scale=1.0):
    scores = np.array([scale * score for score, _, examples in counts for _ in range(examples)])
    labels = np.array([float(n < relevant) for _, relevant, examples in counts for n in range(examples)])
    return scores, labels


def judged(queries=8):
    """Each query has one relevant document at 2, or at −1 in every fourth query, and two others at −2 and 0."""
    run, qrels = {}, {}
    for number in range(queries):
        good = -1.0 if number % 4 == 3 else 2.0
        run[f"q{number}"] = {"good": good, "bad": 0.0, "worse": -2.0}
        qrels[f"q{number}"] = {"good": 1, "bad": 0}
    return qrels, run


def ranking(*scores):
    return Ranking(Query("q", "a"), tuple(Candidate(Document(f"d{n}", "t"), score) for n, score in enumerate(scores)))


def test_platts_slope_is_that_of_the_drawn_in_labels():
    """4 relevant, 4 not: targets 5/6 and 1/6. At 1 their mean is (3 · 5/6 + 1/6) / 4 = 2/3, at −1 it is 1/3."""
    curve = fit_curve("platt", *drawn())

    assert isinstance(curve, Sigmoid)
    assert curve.slope == pytest.approx(math.log(2), abs=1e-6)
    assert curve.intercept == pytest.approx(0, abs=1e-6)


def test_platt_does_not_mind_where_scores_lie():
    scores, labels = drawn()

    far = fit_curve("platt", 1000 + 50 * scores, labels)(1000 + 50 * scores)

    np.testing.assert_allclose(far, fit_curve("platt", scores, labels)(scores), atol=1e-6)


def test_temperature_makes_the_logit_the_log_odds():
    """At 2, three of four are relevant: 2 / T = ln 3."""
    curve = fit_curve("temperature", *drawn(scale=2.0))

    assert isinstance(curve, Sigmoid)
    assert curve.slope == pytest.approx(math.log(3) / 2, abs=1e-6)
    assert curve.intercept == 0


def test_isotonic_pools_what_falls():
    scores, labels = np.arange(6.0), np.array([0.0, 1, 0, 0, 1, 1])

    curve = fit_curve("isotonic", scores, labels)

    np.testing.assert_allclose(curve(scores), [0, 1 / 3, 1 / 3, 1 / 3, 1, 1])
    assert curve == Isotonic((0.0, 1.0, 3.0, 4.0, 5.0), pytest.approx((0, 1 / 3, 1 / 3, 1, 1)))
    np.testing.assert_allclose(curve(np.array([-9.0, 0.5, 9.0])), [0, 1 / 6, 1])


def test_isotonic_pools_equal_scores_first():
    curve = fit_curve("isotonic", np.array([1.0, 1, 1, 2]), np.array([1.0, 0, 0, 1]))

    np.testing.assert_allclose(curve(np.array([1.0, 2.0])), [1 / 3, 1])


def test_ece_and_brier_by_hand():
    """Bins .1–.2 (mean .15, half relevant) and .9–1 (mean .95, all relevant): (2 · .35 + 2 · .05) / 4 = .2."""
    probabilities, labels = np.array([0.15, 0.15, 0.95, 0.95]), np.array([0.0, 1, 1, 1])

    found = quality(probabilities, labels)

    assert found.ece == pytest.approx(0.2)
    assert found.brier == pytest.approx((0.15**2 + 0.85**2 + 2 * 0.05**2) / 4)
    assert [(one.low, one.examples) for one in reliability(probabilities, labels)] == [(0.1, 2), (0.9, 2)]


def test_a_probability_of_one_stands_in_the_last_bin():
    [only] = reliability(np.array([1.0]), np.array([1.0]))

    assert (only.low, only.high) == (0.9, 1.0)
    with pytest.raises(InputError, match="between 0 and 1"):
        quality(np.array([1.1]), np.array([1.0]))


def test_a_threshold_keeps_the_most_at_the_precision_asked_for():
    """Kept at .9: 1 of 1; at .8: 2 of 3 (the two at .8 together); at .6: 3 of 4; at .3: 3 of 5."""
    probabilities, labels = np.array([0.8, 0.9, 0.8, 0.6, 0.3]), np.array([1.0, 1, 0, 1, 0])

    found = threshold_for(probabilities, labels, precision=0.7)

    assert (found.probability, found.precision, found.recall, found.kept, found.examples) == (0.6, 0.75, 1.0, 4, 5)
    assert (found.low, found.high) == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson, 3 of 4
    assert threshold_for(probabilities, labels, precision=1).probability == 0.9
    with pytest.raises(InputError, match=r"no threshold has a precision of 0\.9; the best of these examples has 0\.5"):
        threshold_for(np.array([0.5, 0.5]), np.array([1.0, 0.0]), precision=0.9)


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(sorted(METHODS)),
    scores=st.lists(st.floats(-50, 50), min_size=2, max_size=40),
    data=st.data(),
)
def test_no_method_changes_an_order(method, scores, data):
    labels = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(scores), max_size=len(scores))))
    if not 0 < labels.sum() < len(labels):
        return
    before = ranking(*sorted(scores, reverse=True))
    calibration = Calibration(method, fit_curve(method, np.array(scores), labels))

    after = calibration.apply(before)

    assert after.documents == before.documents
    assert all(one.score is not None and 0 <= one.score <= 1 for one in after)


def test_unscored_candidates_stay_unscored_and_fall_under_a_threshold():
    calibration = Calibration("platt", Sigmoid(1.0))
    before = ranking(2.0, 0.0, None)

    assert [one.score for one in calibration.apply(before)] == pytest.approx([0.8808, 0.5, None], abs=1e-4)
    assert len(calibration.apply(before, threshold=0.5)) == 2
    assert len(calibration.apply(before, threshold=1.0)) == 0
    assert calibration.probability(0.0) == 0.5
    with pytest.raises(InputError, match="has an order and no scores"):
        calibration.apply(ranking(None, None))
    with pytest.raises(InputError, match="from 0 to 1"):
        calibration.apply(before, threshold=2.0)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_fit_is_judged_on_queries_it_has_not_seen(method):
    found = fit(*judged(), method, folds=4, seed=1)

    assert (found.calibration.fitted_to or {})["examples"] == 24
    assert found.unseen.examples == len(found.held_out) == 24
    assert found.unseen.brier >= found.fitted.brier - 1e-9
    assert found.threshold_for(precision=0.5).recall > 0
    again = fit(*judged(), method, folds=4, seed=1)
    np.testing.assert_array_equal(found.held_out, again.held_out)


def test_queries_are_held_out_whole_and_those_with_relevant_documents_evenly():
    examples = Examples.of(*judged(10))

    folds = examples.folds(5, 0)

    assert all(len(set(folds[examples.queries == query])) == 1 for query in range(10))
    assert np.bincount(folds).tolist() == [6] * 5


def test_what_is_unjudged_is_counted():
    qrels, run = judged(4)

    assert (len(Examples.of(qrels, run)), Examples.of(qrels, run).unjudged) == (12, 4)
    assert len(Examples.of(qrels, run, unjudged="left-out")) == 8
    assert Examples.of(qrels, run, relevant_from=2).relevant == 0


@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_is_stored_is_what_was_fitted(method, tmp_path: Path):
    found = fit(*judged(), method, scores_of="judge-1 pointwise").calibration
    found.save(tmp_path / "cal.json")

    loaded = Calibration.load(tmp_path / "cal.json")

    assert loaded == found
    loaded.check("judge-1 pointwise")
    with pytest.raises(InputError, match="of scores by judge-1 pointwise, and these are by judge-2"):
        loaded.check("judge-2 pointwise")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("nonsense", "cannot read"),
        ("{}", "is no calibration"),
        ('{"format": "rerank-toolkit calibration 1"}', "no whole calibration"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(written, said, tmp_path: Path):
    (tmp_path / "cal.json").write_text(written)

    with pytest.raises(FileError, match=said):
        Calibration.load(tmp_path / "cal.json")


def test_a_curve_that_falls_is_refused(tmp_path: Path):
    Calibration("isotonic", Isotonic((0.0, 1.0), (0.2, 0.8))).save(tmp_path / "cal.json")
    values = json.loads((tmp_path / "cal.json").read_text())
    values["curve"]["probabilities"] = [0.8, 0.2]
    (tmp_path / "cal.json").write_text(json.dumps(values))

    with pytest.raises(FileError, match="never falls"):
        Calibration.load(tmp_path / "cal.json")


def test_what_cannot_be_fitted_is_refused():
    qrels, run = judged()
    upside_down = {query_id: {doc: -score for doc, score in ranked.items()} for query_id, ranked in run.items()}

    with pytest.raises(UnknownName, match="did you mean 'platt'"):
        fit(qrels, run, "plat")
    with pytest.raises(InputError, match="do not rise with relevance"):
        fit(qrels, upside_down)
    with pytest.raises(InputError, match="0 of 24 examples are relevant"):
        fit(qrels, run, relevant_from=3)
    with pytest.raises(InputError, match="of one collection"):
        fit({"other": {"d": 1}}, run)
    with pytest.raises(InputError, match="1 queries have a relevant document"):
        fit({"q0": qrels["q0"]}, run)


def test_a_reranker_gives_probabilities_of_its_own_calibration(tmp_path: Path):
    oracle = Oracle({"q": {"d1": 3}})
    key = Reranker(judge=oracle).scores_key
    Calibration("platt", Sigmoid(1.0, -1.0), key).save(tmp_path / "cal.json")

    [found] = Reranker(judge=oracle, calibration=tmp_path / "cal.json").rerank([ranking(None, None)])
    [kept] = Reranker(judge=oracle, calibration=tmp_path / "cal.json", threshold=0.5).rerank([ranking(None, None)])

    assert [(one.document.doc_id, one.score) for one in found] == [
        ("d1", pytest.approx(1 / (1 + math.exp(-2)))),
        ("d0", pytest.approx(1 / (1 + math.exp(1)))),
    ]
    assert [one.document.doc_id for one in kept] == ["d1"]
    with pytest.raises(InputError, match="calibrate this checkpoint"):
        Reranker(judge=Oracle({}), calibration=tmp_path / "cal.json")
    with pytest.raises(InputError, match="needs a calibration"):
        Reranker(judge=oracle, threshold=0.5)


def test_the_python_of_the_page_gives_what_it_shows():
    page = Path(__file__).parents[2] / "docs" / "calibration.md"

    found = doctest.testfile(str(page), module_relative=False)

    assert (found.attempted, found.failed) == (7, 0)
