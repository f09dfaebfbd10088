"""Quicksort, merge sort and sampled pairs: what they ask, and what becomes of close and contradictory answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.algorithms.mergesort import mergesort
from rerank.algorithms.pairs import all_pairs
from rerank.algorithms.quicksort import quicksort
from rerank.algorithms.sorting import heapsort, sliding_k
from rerank.errors import InputError
from rerank.judges.fake import Oracle
from rerank.questions import Compare, Compared

SORTS = [heapsort, mergesort, quicksort, sliding_k]


class Chances:
    """A judge that says of each pair what `chance(first, second)` gives."""

    key, answers, reads_ids = "chances", frozenset({Compare}), True

    def __init__(self, chance):
        self.chance = chance

    def answer(self, questions, bill):
        for index, question in enumerate(questions):
            yield index, Compared(self.chance(int(question.first.doc_id), int(question.second.doc_id)))


def ids(ranking) -> list[int]:
    return [int(document.doc_id) for document in ranking.documents]


def test_the_first_partition_asks_everything_against_the_middle_document_at_once(play, listed):
    qrels = {"query": {str(index): index for index in range(5)}}

    _, rounds = play(quicksort(listed(5)), Oracle(qrels))

    shown = [(question.first.doc_id, question.second.doc_id) for question in rounds[0]]
    assert shown == [pair for other in "0134" for pair in ((other, "2"), ("2", other))]


def test_quicksort_goes_no_deeper_than_the_head_reaches(play, listed):
    qrels = {"query": {str(index): 37 * index % 100 for index in range(100)}}

    _, few = play(quicksort(listed(100), head=1), Oracle(qrels))
    _, all_of_them = play(quicksort(listed(100), head=100), Oracle(qrels))

    assert sum(map(len, few)) < 500 < sum(map(len, all_of_them))


@pytest.mark.parametrize("sort", [mergesort, quicksort, sliding_k])
@given(count=st.integers(0, 30))
def test_ties_keep_the_incoming_order(play, listed, sort, count):
    ranking, _ = play(sort(listed(count)), Chances(lambda first, second: 0.5))

    assert ids(ranking) == list(range(count))


@pytest.mark.parametrize("sort", [heapsort, quicksort, sliding_k])
def test_calibrated_sorts_see_through_a_judge_that_prefers_the_first_place(play, listed, sort):
    """It always says "the first", a little more surely of the better one: by agreement nobody ever wins."""
    biased = Chances(lambda first, second: 0.9 if first > second else 0.8)

    agreed, _ = play(sort(listed(12)), biased)
    calibrated, _ = play(sort(listed(12), calibrated=True), biased)

    assert ids(calibrated)[:10] == list(range(11, 1, -1))
    assert ids(agreed) != ids(calibrated)


def test_mergesort_takes_the_mean_of_both_orders(play, listed):
    biased = Chances(lambda first, second: 0.9 if first > second else 0.8)

    ranking, _ = play(mergesort(listed(12)), biased)

    assert ids(ranking) == list(range(11, -1, -1))


def test_a_beam_finds_the_likelier_merge_where_a_close_call_misleads(play, listed):
    """0 barely loses to 2 but 1 clearly beats 2, and 0 beats 1: the likely order is 0 1 2 (3 stays last).

    By hand: of the merge of [0, 1] with [2, 3] the greedy path begins with 2 (P = .52) and ends; the other path, 0
    then 1 before 2, has the mean log-probability (ln .48 + ln .9) / 2 … against ln .52 and what follows it.
    """
    table = {(0, 1): 1.0, (2, 3): 1.0, (0, 2): 0.48, (1, 2): 0.99, (0, 3): 0.5, (1, 3): 0.99}

    def chance(first: int, second: int) -> float:
        return table[first, second] if first < second else 1.0 - table[second, first]

    greedy, _ = play(mergesort(listed(4)), Chances(chance))
    beam, _ = play(mergesort(listed(4), beam=8), Chances(chance))

    assert ids(greedy)[0] == 2
    assert ids(beam) == [0, 1, 2, 3]


@given(count=st.integers(2, 20), share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_sampled_pairs_reach_every_document_and_are_drawn_from_the_seed(play, listed, count, share, seed):
    judge = Chances(lambda first, second: float(first < second))

    _, [questions] = play(all_pairs(listed(count), share=share, seed=seed), judge)
    _, [again] = play(all_pairs(listed(count), share=share, seed=seed), judge)

    pairs = count * (count - 1) // 2
    asked = {question.first.doc_id for question in questions}
    assert questions == again
    assert len(asked) == count
    assert len(questions) == 2 * max(round(share * pairs), count - 1)


def test_options_that_make_no_sense_are_refused(listed):
    for plan, said in [
        (all_pairs(listed(2), share=0.0), "share=0.0"),
        (all_pairs(listed(2), aggregate="mean"), "aggregate='mean'; there is wins"),
        (mergesort(listed(2), beam=0), "beam=0"),
        (mergesort(listed(2), gap=0.6), "gap=0.6"),
        (quicksort(listed(2), head=0), "head=0"),
    ]:
        with pytest.raises(InputError, match=said):
            next(plan)
