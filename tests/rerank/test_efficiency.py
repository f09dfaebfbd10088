"""RPP and QPP by hand, and what cannot be divided."""

from __future__ import annotations

import pytest
from rich.console import Console

from rerank.efficiency import efficiencies, efficiency
from rerank.errors import InputError
from rerank.evaluate import evaluate
from rerank.report import efficiency_markdown, efficiency_table

QRELS = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 1}}
RUN = {"q1": {"a": 2.0, "b": 1.0}, "q2": {"b": 2.0, "a": 1.0}, "q3": {"a": 1.0}}


def accounts(*flops: float):
    return {f"q{number}": {"flops": value, "questions": 2} for number, value in enumerate(flops, start=1)}


def test_a_measure_per_petaflop_is_averaged_over_queries_and_queries_are_divided_by_the_mean():
    """RR is 1, 1/2, 1; the queries cost 2, 1 and 3 PetaFLOPs: RPP = (1/2 + 1/2 + 1/3) / 3, QPP = 1 / 2."""
    found = efficiency(evaluate(QRELS, RUN, ["RR@10", "P@1"]), accounts(2e15, 1e15, 3e15))

    assert found.rpp["RR@10"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert found.rpp["P@1"] == pytest.approx((1 / 2 + 0 + 1 / 3) / 3)
    assert (found.qpp, found.flops, found.queries, found.without_cost) == (0.5, 2e15, 3, ())


def test_a_query_that_cost_nothing_is_left_out_and_named():
    found = efficiency(evaluate(QRELS, RUN, ["RR@10"]), accounts(2e15, 0, 2e15))

    assert found.without_cost == ("q2",)
    assert (found.queries, found.qpp, found.rpp["RR@10"]) == (2, 0.5, 0.5)


def test_a_query_that_the_run_lacks_has_no_cost_to_miss():
    run = {"q1": RUN["q1"], "q2": RUN["q2"]}

    assert efficiency(evaluate(QRELS, run, ["RR@10"]), accounts(1e15, 1e15)).queries == 2


def test_the_estimate_stands_beside_what_was_executed_where_there_is_one():
    evaluation = evaluate(QRELS, RUN, ["RR@10"])
    bills = {query_id: account | {"flops_estimated": 4e15} for query_id, account in accounts(2e15, 1e15, 3e15).items()}

    assert [found.amount for found in efficiencies(evaluation, accounts(1, 1, 1))] == ["flops"]
    assert [(found.amount, found.qpp) for found in efficiencies(evaluation, bills)] == [
        ("flops", 0.5),
        ("flops_estimated", 0.25),
    ]


@pytest.mark.parametrize(
    ("bills", "said"),
    [
        (accounts(1e15, 1e15), "query 'q3' is not in the ledger; is it the ledger of another run?"),
        (accounts(0, 0, 0), "the ledger has no flops for any of the 3 queries"),
        (
            {**accounts(1, 1, 1), "q2": {"flops": 1.0, "journal_hits": 4}},
            "4 answers about query 'q2' came from a journal, .* rerank with --no-journal",
        ),
    ],
)
def test_a_ledger_that_does_not_fit_is_refused(bills, said):
    with pytest.raises(InputError, match=said):
        efficiencies(evaluate(QRELS, RUN, ["RR@10"]), bills)


def test_an_amount_that_is_no_flops_is_refused():
    with pytest.raises(InputError, match="amount is 'seconds'; it is one of flops, flops_estimated"):
        efficiency(evaluate(QRELS, RUN, ["RR@10"]), accounts(1, 1, 1), "seconds")


def test_it_is_shown_for_people():
    found = efficiency(evaluate(QRELS, RUN, ["RR@10"]), accounts(2e12, 0, 2e12))
    console = Console(width=120)

    with console.capture() as capture:
        console.print(efficiency_table({"my [run]": [found]}))

    shown = " ".join(capture.get().split())
    assert "system FLOPs a query QPP RPP of RR@10" in shown
    assert "my [run] executed 2 TFLOP 500 500" in shown
    assert "Queries that cost nothing, left out: my [run] 1." in shown
    assert efficiency_markdown({"a|b": [found]}).splitlines()[:3] == [
        "| system | FLOPs | a query | QPP | RPP of RR@10 |",
        "| :-- | :-- | --: | --: | --: |",
        "| a\\|b | executed | 2 TFLOP | 500 | 500 |",
    ]
