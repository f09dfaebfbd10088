"""What a run is worth: by hand, against ir-measures and on TREC DL 2019."""

from __future__ import annotations

import doctest
import math
from pathlib import Path

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.errors import InputError, UnknownName
from rerank.evaluate import compare, evaluate
from rerank.io import read_qrels, read_run, run_scores
from rerank.types import Document, Query, Ranking

QRELS = {"q1": {"a": 3, "b": 0, "c": 1}, "q2": {"a": 1}, "q3": {"z": 2}}
RUN = {"q1": {"b": 3.0, "a": 2.0, "new": 1.0}, "q2": {"a": 1.0}, "other": {"a": 1.0}}


def test_values_are_those_computed_by_hand():
    evaluation = evaluate(QRELS, RUN, ["nDCG@10", "RR@10", "P@5", "R@100", "Judged@10"])

    ideal = 3 + 1 / math.log2(3)
    assert evaluation.values("nDCG@10") == pytest.approx({"q1": 3 / math.log2(3) / ideal, "q2": 1.0, "q3": 0.0})
    assert evaluation.values("RR@10") == {"q1": 0.5, "q2": 1.0, "q3": 0.0}
    assert evaluation.values("P@5") == pytest.approx({"q1": 0.2, "q2": 0.2, "q3": 0.0})
    assert evaluation.values("R@100") == {"q1": 0.5, "q2": 1.0, "q3": 0.0}
    assert evaluation.values("Judged@10") == pytest.approx({"q1": 2 / 3, "q2": 1.0, "q3": 0.0})


def test_the_mean_counts_missing_queries_as_zero_and_leaves_unjudged_ones_out():
    evaluation = evaluate(QRELS, RUN, ["RR@10"])

    assert evaluation.means["RR@10"] == pytest.approx(1.5 / 3)
    assert evaluation.missing == ("q3",)
    assert evaluation.unjudged == ("other",)


def test_a_query_without_documents_is_missing_and_one_without_judgments_is_not_judged():
    evaluation = evaluate({"q1": {"a": 1}, "q2": {"a": 1}, "q3": {}}, {"q1": {"a": 1.0}, "q2": {}, "q3": {"a": 1.0}})

    assert evaluation.query_ids == ("q1", "q2")
    assert (evaluation.missing, evaluation.unjudged) == (("q2",), ("q3",))
    assert evaluation.means["nDCG@10"] == 0.5


def test_graded_relevance_levels_are_kept_apart():
    qrels = {"q": {"low": 1, "high": 2}}

    evaluation = evaluate(qrels, {"q": {"low": 2.0, "high": 1.0}}, ["RR@10", "RR(rel=2)@10", "AP(rel=2)", "R(rel=2)@1"])

    assert dict(evaluation.means) == {"RR@10": 1.0, "RR(rel=2)@10": 0.5, "AP(rel=2)": 0.5, "R(rel=2)@1": 0.0}


def test_every_program_behind_the_measures_sees_trec_evals_order():
    # equal in float32 only: trec_eval puts the later doc_id first; RR@10 alone would put "a" first
    evaluation = evaluate({"q": {"a": 1, "b": 0}}, {"q": {"a": 1.0 + 1e-12, "b": 1.0}}, ["RR", "RR@10", "Success@1"])

    assert dict(evaluation.means) == {"RR": 0.5, "RR@10": 0.5, "Success@1": 0.0}


def test_the_order_of_a_ranking_counts_even_where_its_scores_tie():
    ranking = Ranking.by_score(Query("q", "text"), [Document("a", ""), Document("b", "")], [1.0, 1.0])

    evaluation = evaluate({"q": {"a": 1, "b": 0}}, {"q": ranking}, ["RR", "RR@10"])

    assert dict(evaluation.means) == {"RR": 1.0, "RR@10": 1.0}


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 0.5, 0.5 + 1e-9, 1.0, -2.0]), min_size=1))
def test_scores_are_read_as_trec_eval_reads_them(scores):
    qrels = {"1": {"a": 2, "c": 1, "e": 3, "x": 1}}
    names = ["nDCG@3", "AP", "RR"]

    ours = evaluate(qrels, {"1": scores}, names)

    theirs = ir_measures.pytrec_eval.calc_aggregate(
        [ir_measures.parse_measure(name) for name in names], qrels, {"1": scores}
    )
    assert dict(ours.means) == pytest.approx({str(measure): value for measure, value in theirs.items()})


@given(
    scores=st.lists(st.sampled_from([0.0, 1.0, 1.0 + 1e-12, 1e30]), min_size=1, max_size=8), relevant=st.integers(0, 7)
)
def test_a_ranking_is_worth_what_its_written_scores_are_worth(scores, relevant):
    documents = [Document(f"d{index}", "") for index in range(len(scores))]
    ranking = Ranking.by_score(Query("q", "text"), documents, scores)
    qrels = {"q": {f"d{relevant}": 1, "d0": 2}}

    assert evaluate(qrels, {"q": ranking}).means == evaluate(qrels, run_scores([ranking])).means


@pytest.mark.skipif(not ir_measures.gdeval.is_available(), reason="ERR is computed by a perl program; there is no perl")
def test_query_ids_may_be_any_text_even_where_a_program_wants_numbers():
    evaluation = evaluate({"what is": {"a": 4, "b": 0}}, {"what is": {"b": 2.0, "a": 1.0}}, ["ERR@20"])

    assert evaluation.values("ERR@20") == {"what is": pytest.approx(15 / 16 / 2, abs=1e-5)}


def test_measures_keep_the_names_they_were_asked_for_by():
    evaluation = evaluate(QRELS, RUN, ["MRR@10", "RR@10"])

    assert evaluation.measures == ("MRR@10", "RR@10")
    assert evaluation.values("MRR@10") == evaluation.values("RR@10")


def test_the_dict_for_json_holds_everything():
    evaluation = evaluate({"q": {"a": 1}}, {"q": {"a": 1.0}, "u": {"a": 1.0}}, ["RR"])

    assert evaluation.as_dict() == {
        "means": {"RR": 1.0},
        "queries": {"RR": {"q": 1.0}},
        "missing": [],
        "unjudged": ["u"],
    }


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        ("ndgc@10", "no measure is called 'ndgc'; did you mean 'nDCG'? (measures are written like nDCG@10"),
        ("P", "the measure 'P' needs cutoff"),
        ("nDCG@0", "the cutoff of the measure 'nDCG@0' must be a whole number from 1"),
        ("nDCG@True", "must be a whole number from 1"),
        ("P@99999999999999999999", "must be a whole number from 1"),
        ("nDCG@-1", "cannot read the measure 'nDCG@-1'"),
        ("nDCG(10)", "cannot read the measure"),
        ("", "cannot read the measure ''"),
        ("nDCG(foo=1)@10", "the measure 'nDCG(foo=1)@10' cannot be used: unsupported params found: ['foo']"),
        ("RBP(p=0.8)", "RBP wants a relevance level, as in RBP(rel=1,p=0.8)"),
        ("NumQ", "counts over all queries and has no mean"),
        ("AP(rel=0)", "ir-measures cannot compute 'AP(rel=0)': Argument relevance_level should be positive."),
    ],
)
def test_a_measure_that_cannot_be_used_is_named(measure, words):
    with pytest.raises(InputError) as caught:
        evaluate(QRELS, RUN, [measure])

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_measure_is_an_unknown_name():
    with pytest.raises(UnknownName):
        evaluate(QRELS, RUN, ["ndgc@10"])


def test_a_measure_whose_program_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(ir_measures.cwl_eval, "_is_available", False)

    with pytest.raises(InputError, match=r"needs a package that is not installed: pip install ir-measures\[cwl_eval\]"):
        evaluate(QRELS, RUN, ["RBP(rel=1,p=0.8)"])


def test_a_measure_without_a_value_for_some_query_is_an_error():
    with pytest.raises(InputError, match="the measure 'Accuracy' has no value for query 'q1'"):
        evaluate({"q1": {"a": 1}}, {"q1": {"b": 1.0}}, ["Accuracy"])


@pytest.mark.parametrize(
    ("qrels", "run", "words"),
    [
        ({}, RUN, "the qrels hold no judgment"),
        ({"q": {}}, RUN, "the qrels hold no judgment"),
        (QRELS, {}, "the run is empty"),
        ({"9": {"a": 1}}, RUN, "the run shares no query with the qrels: it has 'q1' …, they have '9' …"),
        (QRELS, {"q1": {"a": math.nan}}, "document 'a' of query 'q1' has the score nan"),
        (QRELS, {"q1": {"a": 1.0, "b": 1e300}}, "document 'b' of query 'q1' has the score 1e+300"),
        ({"q1": {"a": 0.5}}, RUN, "query 'q1' has a relevance that is no whole number"),
        ({"q1": {"a": 1_000_001}}, RUN, "the relevance of document 'a' for query 'q1' is beyond ±1,000,000"),
        ({"q1": {"a": -(10**20)}}, RUN, "the relevance of document 'a' for query 'q1' is beyond ±1,000,000"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(qrels, run, words):
    with pytest.raises(InputError) as caught:
        evaluate(qrels, run)

    assert words in str(caught.value)


@pytest.mark.parametrize("relevance", [1_000_000, -1_000_000])
def test_the_largest_relevance_is_evaluated(relevance):
    found = evaluate({"q": {"a": relevance, "b": 1}}, {"q": {"a": 2.0, "b": 1.0}}, ["RR", "nDCG@10", "Judged@10"])

    assert found.means["RR"] == (1.0 if relevance > 0 else 0.5)
    assert found.means["Judged@10"] == 1.0


def test_measures_are_a_list_not_one_name():
    with pytest.raises(InputError, match="it must be a list of names"):
        evaluate(QRELS, RUN, "nDCG@10")


def test_comparing_by_a_measure_that_was_not_evaluated_names_it():
    evaluation = evaluate(QRELS, RUN)

    with pytest.raises(UnknownName, match="no evaluated measure is called 'ndcg@10'; did you mean 'nDCG@10'"):
        compare(evaluation, evaluation, "ndcg@10")


def test_comparing_over_different_judgments_is_refused():
    first = evaluate({"q1": {"a": 1}, "q2": {"a": 1}}, RUN)
    second = evaluate({"q1": {"a": 1}, "q3": {"a": 1}}, RUN)

    with pytest.raises(InputError, match="query 'q2' is on one side only"):
        compare(first, second, "nDCG@10")


RECORDED = {
    "bm25": 0.5058,
    "bm25_rm3": 0.5216,
    "d_bert_kd_tasb": 0.7210,
    "open_ai_ada2": 0.7035,
    "rep_llama": 0.7384,
    "splade_p_p_ensemble_distil": 0.7308,
}


@pytest.fixture(scope="module")
def dl19(shared):
    folder = shared / "trec-dl19"
    qrels = read_qrels(folder / "qrels" / "test.tsv")
    return {name: evaluate(qrels, read_run(folder / "runs" / f"{name}.trec")) for name in RECORDED}


def test_trec_dl19_gives_the_published_values(dl19):
    assert {name: round(evaluation.means["nDCG@10"], 4) for name, evaluation in dl19.items()} == RECORDED


def test_splade_beats_bm25_beyond_chance_and_nothing_beats_itself(dl19):
    found = compare(dl19["splade_p_p_ensemble_distil"], dl19["bm25"], "nDCG@10")
    itself = compare(dl19["bm25"], dl19["bm25"], "nDCG@10")

    assert found.difference == pytest.approx(0.7308 - 0.5058, abs=1e-4)
    assert found.p_randomisation == 1 / 10_001
    assert found.p_t < 1e-5
    assert found.interval.low > 0.1
    assert (found.wins, found.ties, found.losses) == (34, 0, 9)
    assert (itself.p_randomisation, itself.p_t, itself.ties) == (1.0, 1.0, 43)


def test_the_page_about_evaluating_is_true():
    page = Path(__file__).parents[2] / "docs" / "evaluate.md"

    found = doctest.testfile(str(page), module_relative=False)

    assert (found.failed, found.attempted > 0) == (0, True)
