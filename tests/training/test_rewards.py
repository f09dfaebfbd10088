"""Rewards of written answers, by hand: each on ten answers, malformed ones among them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank import prompts
from training.examples import BadExample, Example
from training.rewards import REWARDS, Shown
from training.rewards.grades import form
from training.rewards.orders import agreement, improvement, overlap

FIRST_AT_TWO = 1 / math.log2(3)
"""nDCG of one relevant document that stands second; third, it is a half."""

LIST = Example("q", ("a", "b", "c"), relevance=(0, 1, 0), order=(1, 0, 2))


def thought(answer: str) -> str:
    return f"<think>the second one</think>\n<answer>{answer}</answer>"


def worth(reward: str, text: str, example: Example = LIST) -> float:
    return REWARDS[reward](text, Shown(example, prompts.find(reward)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (thought("[2]"), 1),
        (thought(" [2]\n"), 1),
        (thought("[2]").upper(), 1),  # its judge lowers the case, too
        (thought("[1]"), 0),
        (thought("[4]"), 0),
        (thought("2"), 0),
        (thought("[2], or [3]"), 0),
        ("<answer>[2]</answer>", 0),
        ("<think>the second one<answer>[2]</answer>", 0),
        (thought("[2]") + " <answer>[1]</answer>", 1),  # two answers: the first is read
        (thought("[2]") + " That is all.", 1),
        ("", 0),
    ],
)
def test_rank_r1_is_1_for_the_gold_label_in_its_form(text: str, value: float) -> None:
    assert worth("rank-r1", text) == value


def test_rank_r1_takes_the_highest_grade_for_gold() -> None:
    graded = Example("q", ("a", "b", "c"), relevance=(3, 1, 3))

    assert [worth("rank-r1", thought(f"[{number}]"), graded) for number in (1, 2, 3)] == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (thought("[2] > [1] > [3]"), 1 + 0.2 + 0.1),
        (thought("[1] > [2] > [3]"), FIRST_AT_TWO + 0.2 + 0.1 * (0 + 1 + 1) / 3),
        (thought("[3] > [1] > [2]"), 0.5 + 0.2 + 0.1 * (0 + 1 / 2 + 1) / 3),
        (thought("[2] > [1]"), 0),  # one is missing
        (thought("[2] > [1] > [3] > [3]"), 0),
        (thought("[2] > [1] > [4]"), 0),
        (thought(""), 0),
        ("[2] > [1] > [3]", -1),
        ("<answer>[2] > [1] > [3]</answer>", -1),
        (thought("[2] > [1] > [3]").upper(), -1),  # the published pattern knows small letters alone
        (thought("[2] > [1] > [3]") + thought("[3] > [1] > [2]"), 1.3),
        (thought("[2] > [1] > [3]") + " I hope so.", 1.3),
        ("", -1),
    ],
)
def test_reasonrank_sums_ndcg_recall_and_overlap_of_whole_lists(text: str, value: float) -> None:
    assert worth("reasonrank", text) == pytest.approx(value)


def test_reasonrank_counts_ten_documents_and_grades_as_one() -> None:
    documents = tuple(f"text {place}" for place in range(12))
    example = Example("q", documents, relevance=(0,) * 10 + (2, 1), order=tuple(range(12)))
    order = [11, *range(1, 11), 12]  # the eleventh first, the twelfth stays last: one of two within ten

    found = worth("reasonrank", thought(" > ".join(f"[{number}]" for number in order)), example)

    shares = [0, *((depth - 1) / depth for depth in range(2, 11)), 1, 1]
    assert found == pytest.approx(1 / (1 + FIRST_AT_TWO) + 0.2 / 2 + 0.1 * sum(shares) / 12)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (thought("[2] > [1] > [3]"), 1 + 1),
        (thought("[1] > [2] > [3]"), 0 + 1),
        (thought("[3] > [1] > [2]"), (0.5 - FIRST_AT_TWO) / (1 - FIRST_AT_TWO) + 1),
        (thought("[2] > [1]"), 0 + 1),  # the form of a list, but no order of all
        (thought("[2] > [2] > [1]"), 0 + 1),
        (thought("[2] > [1] > [9]"), 0 + 1),
        (thought("2, 1, 3"), 1 + 0),
        (thought("[2] > [1] > [3]").upper(), 0),
        ("<think>well</think> [2] > [1] > [3]", 0),
        (thought(""), 0),
        (thought("[2] > [1] > [3]") + thought("[1]"), 1 + 1),
        (thought("[2] > [1] > [3]") + "\nDone.", 1 + 1),
        ("", 0),
    ],
)
def test_rearank_is_the_gain_over_the_order_shown_and_the_form(text: str, value: float) -> None:
    assert worth("rearank", text) == pytest.approx(value)


def test_an_order_that_was_perfect_can_only_lose() -> None:
    perfect = Shown(Example("q", ("a", "b", "c"), relevance=(1, 0, 0)), prompts.find("rearank"))

    assert improvement(thought("[1] > [2] > [3]"), perfect) == 0
    assert improvement(thought("[2] > [1] > [3]"), perfect) == pytest.approx(FIRST_AT_TWO - 1)
    nearly = Shown(Example("q", ("a", "b", "c", "d"), relevance=(3, 1, 2, 0)), prompts.find("rearank"))
    assert improvement(thought("[4] > [2] > [3] > [1]"), nearly) == -1


LONG = "a passage about it. " * 20


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes(3)", 1 + 0.5),
        ("yes(4)", (1 + 0.75) / 2 + 0.5),
        ("YES ( 2 )", (1 + 0.75) / 2 + 0.5),
        ("no(1)", 0 + 0.5),
        ("yes(1)", 1 / 2 + 0.5),  # the grade contradicts its verdict
        ("no(3)", 0 + 0.5),
        ("yes", 0 + 0.5),
        ("yes(9)", 1 / 2 + 0.5),
        ("yes(3) because", 0 + 0.5),
        ("yes(3) no(0)", 0 + 0.5),
        ("", 0),
    ],
)
def test_tfrank_halves_verdict_and_grade_and_adds_the_form(text: str, value: float) -> None:
    pair = Example("q", ("a",), relevance=(3,))

    assert worth("tfrank", f"<think>\n\n</think>\n\n{text}", pair) == pytest.approx(value)


def test_tfrank_wants_its_tags_and_thoughts_of_some_length() -> None:
    pair = Example("q", ("a",), relevance=(0,))
    shown = Shown(pair, prompts.find("tfrank"))

    assert worth("tfrank", "no(0)", pair) == 0
    assert worth("tfrank", f"<think>\n{LONG}\n</think>\n\nno(0)", pair) == 1.5
    assert worth("tfrank", "<think>\n\n</think>\n\nno(2)", pair) == pytest.approx((1 + 0) / 2 + 0.5)
    assert form("<think>\nshort\n</think>\n\nno(0)", shown) == 0
    assert form(f"<think>\n{LONG * 20}\n</think>\n\nno(0)", shown) == 0
    assert form("<think>\n\n</think>\n\n  ", shown) == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (thought("passage 1"), 1.1),
        (thought("[3]"), 1.1),
        (thought("passage 2"), 0.1),  # the relevant one
        (thought("passage 7"), 0),
        (thought("passage 1, passage 3"), 1.0),
        (thought("PASSAGE 1"), 1.1),
        ("<think>so</think> passage 1", 1.0),
        ("<think>passage 1", 0),
        (thought(""), 0),
        (thought("passage 1") + " Farewell.", 1.1),
        ("", 0),
    ],
)
def test_iranker_wants_an_irrelevant_passage_put_out(text: str, value: float) -> None:
    assert worth("iranker", text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It answers the question. Relevance label: 2", -0.5),
        ("Relevance label: 1", -0.5),
        ("Relevance label: 0", -1.5),
        ("RELEVANCE LABEL: 2", -0.5),
        ("Label: 0. No, label: 2", -0.5),  # the last one ends the explanation
        ("Label: 7", -0.5),  # read as the nearer end, as its judge does
        ("It is a 1", -0.5),
        ("It is relevant", -2),
        ("<think>label: 2", -2),
        ("", -2),
    ],
)
def test_interank_is_the_distance_to_the_teachers_score(text: str, value: float) -> None:
    assert worth("interank", text, Example("q", ("a",), scores=(1.5,))) == pytest.approx(value)


@given(st.data())
def test_ndcg_and_overlap_agree_with_their_formulas(data: st.DataObject) -> None:
    relevance = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=14).filter(any))
    order = data.draw(st.permutations(range(len(relevance))))
    other = data.draw(st.permutations(range(len(relevance))))

    def dcg(grades: list[int]) -> float:
        return sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades[:10]))

    expected = dcg([relevance[index] for index in order]) / dcg(sorted(relevance, reverse=True))
    assert agreement(order, relevance) == pytest.approx(expected)
    assert overlap(order, order) == 1
    assert overlap(order, other) == overlap(other, order) >= 1 / len(order)


@pytest.mark.parametrize(
    ("reward", "example", "message"),
    [
        ("rank-r1", Example("q", ("a", "b"), scores=(1, 2)), "the reward needs relevance; this example has scores"),
        ("rank-r1", Example("q", ("a", "b"), relevance=(0, 0)), "2 documents, none of them relevant"),
        ("reasonrank", Example("q", ("a", "b"), relevance=(0, 1)), "needs order and relevance; .* and no order"),
        ("rearank", Example("q", ("a", "b"), relevance=(0, 0.5)), "grade 0.5 is no whole number from 0"),
        ("iranker", Example("q", ("a", "b"), relevance=(1, 1)), "all documents are relevant"),
        ("interank", Example("q", ("a",), relevance=(1,)), "needs scores; this example has relevance"),
    ],
)
def test_examples_that_no_answer_can_gain_from_are_refused(reward: str, example: Example, message: str) -> None:
    with pytest.raises(BadExample, match=message):
        REWARDS[reward].check(example)
