"""Budgets: what they pay for by hand, what they leave below, and what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank import Document, Query, Ranking, Reranker
from rerank.errors import InputError
from rerank.judges.fake import Oracle
from rerank.questions import Grade, Graded
from rerank.rerankers.cascade import Budget


class Dear:
    """The score is the text's number; a document costs 0.1 PFLOP and a tenth of a second for each letter x in it."""

    key, answers, reads_ids = "dear", frozenset({Grade}), False

    def __init__(self):
        self.rounds: list[int] = []

    def answer(self, questions, bill):
        self.rounds.append(len(questions))
        for index, question in enumerate(questions):
            letters = question.document.text.count("x")
            bill.charge(question.query.query_id, flops=1e14 * letters, seconds=0.1 * letters)
            yield index, Graded(float(question.document.text.strip("x")))


def ranked(count, letters=lambda index: 1):
    documents = [Document(f"d{index}", f"{'x' * letters(index)}{index:03}") for index in range(count)]
    return Ranking.unscored(Query("q", "a"), documents)


def test_a_budget_by_hand():
    """0.55 PFLOP pay for 5 documents of 0.1: one; of the 0.45 left, half pays for 2; of 0.25, for 1; of 0.15, for 1."""
    judge = Dear()
    reranker = Reranker(judge=judge)

    [found] = reranker.rerank([ranked(8)], budget=Budget(pflop=0.55))

    assert judge.rounds == [1, 2, 1, 1]
    assert [one.document.doc_id for one in found] == ["d4", "d3", "d2", "d1", "d0", "d5", "d6", "d7"]
    assert [one.score for one in found] == [4.0, 3.0, 2.0, 1.0, 0.0, None, None, None]
    assert reranker.ledger.total["over_budget"] == 3


def test_seconds_are_counted_too_and_the_first_to_run_out_counts():
    for budget in (Budget(seconds=0.55), Budget(pflop=9, seconds=0.55), Budget(pflop=0.55, seconds=9)):
        [found] = Reranker(judge=Dear()).rerank([ranked(8)], budget=budget)

        assert sum(one.score is not None for one in found) == 5


def test_a_budget_that_suffices_changes_nothing():
    whole, [found] = Reranker(judge=Dear()), Reranker(judge=Dear(), query_pflop=99).rerank([ranked(30)])

    assert found == whole.rerank([ranked(30)])[0]
    assert "over_budget" not in whole.ledger.total


def test_what_is_remembered_costs_nothing():
    reranker = Reranker(judge=Dear())
    reranker.rerank([ranked(5)])

    [found] = reranker.rerank([ranked(8)], budget=Budget(pflop=0.25))

    assert sum(one.score is not None for one in found) == 7


def test_a_query_is_charged_for_this_call_alone_and_queries_do_not_share():
    reranker = Reranker(judge=Dear(), query_seconds=0.25)
    other = Ranking.unscored(Query("other", "b"), ranked(8).documents)

    for _ in range(2):
        found = reranker.rerank([ranked(8), other])

    assert [sum(one.score is not None for one in each) for each in found] == [4, 4]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.floats(0.1, 60))
def test_the_first_documents_are_asked_about_and_one_at_least(letters, limit):
    reranker = Reranker(judge=Dear())

    [found] = reranker.rerank([ranked(len(letters), letters.__getitem__)], budget=Budget(pflop=limit))

    assert {one.document.doc_id for one in found} == {f"d{index}" for index in range(len(letters))}
    asked = sum(one.score is not None for one in found)
    assert asked >= 1
    assert {one.document.doc_id for one in found[:asked]} == {f"d{index}" for index in range(asked)}


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="say one of them, above 0"):
        Budget()
    with pytest.raises(InputError, match="say one of them, above 0"):
        Reranker(judge=Dear(), query_pflop=0)
    with pytest.raises(InputError, match="a budget is spent document by document"):
        Reranker(judge=Oracle({}), algorithm="heapsort", query_seconds=1)
    with pytest.raises(InputError, match="a budget is spent document by document"):
        Reranker(judge=Dear(), long_documents="max").rerank([ranked(2)], budget=Budget(seconds=1))
