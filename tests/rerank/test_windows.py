"""Windows slide from the tail to the head, leave nothing out, and order what they show."""

from __future__ import annotations

from itertools import pairwise, permutations, product
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.algorithms.windows import full_list, sliding_windows, wavefront, windows
from rerank.errors import InputError, JudgeError
from rerank.judges.fake import Oracle
from rerank.questions import Permute, Permuted


def spans(parts) -> list[tuple[int, int]]:
    return [(part.start, part.stop) for part in parts]


def ids(ranking) -> list[int]:
    return [int(document.doc_id) for document in ranking.documents]


@st.composite
def shapes(draw):
    window = draw(st.integers(2, 12))
    return {"window": window, "step": draw(st.integers(1, window))}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, []),
        (2, [(0, 2)]),
        (10, [(0, 10)]),  # n = window − step
        (19, [(0, 19)]),
        (20, [(0, 20)]),
        (21, [(1, 21), (0, 11)]),
        (25, [(5, 25), (0, 15)]),  # (n − window) is no multiple of the step: the head has its window all the same
        (30, [(10, 30), (0, 20)]),
        (95, [(75, 95), (65, 85), (55, 75), (45, 65), (35, 55), (25, 45), (15, 35), (5, 25), (0, 15)]),
        (100, [(start, start + 20) for start in range(80, -1, -10)]),
    ],
)
def test_where_a_window_of_twenty_stands(count, expected):
    assert spans(windows(count, window=20, step=10)) == expected


def test_a_window_of_one_document_is_left_out():
    assert spans(windows(21, window=20, step=20)) == [(1, 21)]


@given(count=st.integers(2, 200), shape=shapes())
def test_windows_reach_the_head_and_leave_no_gap(count, shape):
    parts = windows(count, **shape)

    alone = shape["step"] == shape["window"] and count % shape["window"] == 1
    assert parts[0].stop == count
    assert parts[-1].start == int(alone)
    assert set().union(*(range(count)[part] for part in parts)) == set(range(int(alone), count))
    assert all(2 <= part.stop - part.start <= shape["window"] for part in parts)


@given(count=st.integers(0, 40), shape=shapes(), firsts=st.integers(1, 6), same=st.booleans())
def test_a_wavefront_asks_every_window_once_after_all_that_it_depends_on(count, shape, firsts, same):
    passes = [windows(count, first=0 if same else place, **shape) for place in range(firsts)]

    rounds = wavefront(passes)

    one_by_one, side_by_side = list(range(count)), list(range(count))
    for parts in passes:
        for part in parts:
            one_by_one[part] = scrambled(one_by_one[part])
    for parts in rounds:
        seen = [index for part in parts for index in range(count)[part]]
        assert len(seen) == len(set(seen))
        for part in parts:
            side_by_side[part] = scrambled(side_by_side[part])
    assert sorted(spans(part for parts in rounds for part in parts)) == sorted(spans(p for ps in passes for p in ps))
    assert side_by_side == one_by_one


def scrambled(values: list[int]) -> list[int]:
    """An order that depends on what stands where, so that doing things in another order would show."""
    return sorted(values, key=lambda value: (value * 7919 + sum(values[:1]) * 31) % 101)


def test_good_documents_rise_with_the_window(play, listed):
    judge = Oracle({"query": {"99": 3, "50": 2, "0": 1}})

    ranking, rounds = play(sliding_windows(listed(100)), judge)

    rest = [index for index in range(100) if index not in (99, 50, 0)]
    assert ids(ranking) == [99, 50, 0, *rest]
    assert [len(questions) for questions in rounds] == [1] * 9
    assert all(candidate.score is None for candidate in ranking)


@pytest.mark.parametrize(
    ("count", "window", "step"), [(100, 20, 10), (95, 20, 10), (100, 20, 7), (50, 5, 1), (50, 5, 5)]
)
def test_the_rounds_of_several_passes(count, window, step):
    once = windows(count, window=window, step=step)

    assert len(once) == 1 + ceil((count - window) / step)
    for passes in (1, 2, 5):
        assert len(wavefront([once] * passes)) == len(once) + (passes - 1) * ceil(window / step)


@pytest.mark.parametrize(("passes", "rounds"), [(1, 9), (2, 11), (3, 13)])
def test_a_further_pass_follows_two_windows_behind(play, listed, passes, rounds):
    judge = Oracle({"query": {str(index): index for index in range(100)}})

    ranking, asked = play(sliding_windows(listed(100), passes=passes), judge)

    assert len(asked) == rounds
    assert sum(map(len, asked)) == 9 * passes
    assert ids(ranking)[: 10 * passes] == list(range(99, 99 - 10 * passes, -1))


def test_no_more_positions_are_promised_than_can_be_kept(play, listed):
    """All good documents at the tail: ten of them fit into what two windows share, and the eleventh stays behind."""
    judge = Oracle({"query": {str(index): index for index in range(100)}})

    ranking, _ = play(sliding_windows(listed(100)), judge)

    assert sliding_windows.exact(100) == 10
    assert ids(ranking)[:10] == list(range(99, 89, -1))
    assert ids(ranking)[10] != 89


@pytest.mark.parametrize(
    ("count", "options", "exact"),
    [
        (100, {}, 10),
        (20, {}, 20),
        (5, {"window": 20, "step": 20}, 5),
        (100, {"step": 20}, 0),
        (100, {"step": 5}, 15),
        (100, {"passes": 2}, 20),
        (100, {"passes": 8}, 80),
        (100, {"passes": 9}, 100),
        (95, {"passes": 2}, 20),
        (21, {"passes": 2}, 21),
        (100, {"step": 20, "passes": 9}, 0),
    ],
)
def test_how_many_positions_are_promised(count, options, exact):
    assert sliding_windows.exact(count, **options) == exact


@pytest.mark.parametrize("count", [4, 5, 6])
def test_what_is_promised_is_what_the_worst_order_leaves(count):
    """For one pass and two; more passes may now and then leave a little more than is promised."""
    for window, passes in product(range(2, count + 1), (1, 2)):
        for step in range(1, window + 1):
            parts = windows(count, window=window, step=step) * passes
            worst = min(in_order(order, parts) for order in permutations(range(count)))

            assert worst == sliding_windows.exact(count, window=window, step=step, passes=passes)


def in_order(order: tuple[int, ...], parts) -> int:
    """How many head positions are right after a perfect judge has seen these windows."""
    ranked = list(order)
    for part in parts:
        ranked[part] = sorted(ranked[part])
    return next((index for index, document in enumerate(ranked) if index != document), len(ranked))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 1, "step": 1}, "a window of 1 moving 1 at a time would skip documents"),
        ({"window": 5, "step": 6}, "a window of 5 moving 6 at a time"),
        ({"window": 5, "step": 0}, "a window of 5 moving 0 at a time"),
        ({"passes": 0}, "passes=0"),
    ],
)
def test_windows_that_would_skip_documents_are_refused(play, listed, options, message):
    with pytest.raises(InputError, match=message):
        play(sliding_windows(listed(3), **options), Oracle({}))


class Says:
    """A judge that always gives the same groups."""

    key, answers, reads_ids = "says", frozenset({Permute}), False

    def __init__(self, *groups):
        self.groups = groups

    def answer(self, questions, bill):
        yield from ((index, Permuted(self.groups)) for index, _ in enumerate(questions))


@pytest.mark.parametrize("algorithm", [sliding_windows, full_list])
@pytest.mark.parametrize("groups", [(), ((0,), (1,)), ((0,), (1,), (1,)), ((0,), (1,), (3,)), ((0, 1, 2), (0,))])
def test_an_answer_that_is_no_order_is_the_judges_error(play, listed, algorithm, groups):
    with pytest.raises(JudgeError, match=r"Permute of query 'query' was answered with .* each index below 3 once"):
        play(algorithm(listed(3)), Says(*groups))


@pytest.mark.parametrize("algorithm", [sliding_windows, full_list])
def test_documents_that_tie_keep_the_order_of_their_group(play, listed, algorithm):
    ranking, _ = play(algorithm(listed(4)), Says((3,), (1, 2), (0,)))

    assert ids(ranking) == [3, 1, 2, 0]


def test_the_full_list_is_one_question(play, listed):
    ranking, rounds = play(full_list(listed(300)), Oracle({"query": {str(index): index for index in range(300)}}))

    assert ids(ranking) == list(range(299, -1, -1))
    [[question]] = rounds
    assert question == Permute(listed(300).query, listed(300).documents)


def test_windows_overlap_by_what_the_step_leaves():
    for one, following in pairwise(windows(50, window=8, step=3)[:-1]):
        assert one.start + 8 - 3 == following.stop
