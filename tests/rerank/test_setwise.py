"""The best of a parent and its children: what is shown, who moves, and what is refused."""

from __future__ import annotations

import hashlib
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.algorithms.setwise import setwise_heapsort, setwise_sliding
from rerank.errors import InputError, JudgeError
from rerank.judges.fake import Oracle
from rerank.questions import Pick, Picked

BOTH = [setwise_heapsort, setwise_sliding]


class Picks:
    """A judge that picks by a rule: (ids shown) -> indices."""

    key, answers, reads_ids = "picks", frozenset({Pick}), True

    def __init__(self, rule):
        self.rule = rule

    def answer(self, questions, bill):
        for index, question in enumerate(questions):
            yield index, Picked(self.rule([int(document.doc_id) for document in question.documents]))


def moody(seed: int):
    """A rule that picks anything, but always the same from the same documents."""
    return lambda shown: (hashlib.sha256(f"{seed} {shown}".encode()).digest()[0] % len(shown),)


def ids(ranking) -> list[int]:
    return [int(document.doc_id) for document in ranking.documents]


def test_the_parent_is_shown_first_and_siblings_of_a_level_are_asked_together(play, listed):
    _, rounds = play(setwise_heapsort(listed(9), head=1), Picks(lambda shown: (0,)))

    shown = [[[int(document.doc_id) for document in pick.documents] for pick in questions] for questions in rounds]
    assert shown == [[[3, 7, 8]], [[2, 5, 6], [1, 3, 4]], [[0, 1, 2]]]


def test_windows_of_neighbours_are_shown_from_the_tail(play, listed):
    _, rounds = play(setwise_sliding(listed(8), head=1, children=3), Picks(lambda shown: (0,)))

    shown = [[int(document.doc_id) for document in pick.documents] for [pick] in rounds]
    assert shown == [[4, 5, 6, 7], [1, 2, 3, 4], [0, 1]]


def test_every_question_picks_one(play, listed):
    for algorithm in BOTH:
        _, rounds = play(algorithm(listed(30), children=4), Picks(moody(2)))

        picks = [pick for questions in rounds for pick in questions]
        assert {(pick.count, pick.worst) for pick in picks} == {(1, False)}
        assert {len(pick.documents) for pick in picks} <= {2, 3, 4, 5}


@given(seed=st.integers(0, 10**6), count=st.integers(0, 24), head=st.integers(1, 26), children=st.integers(1, 8))
def test_sliding_is_one_pass_after_the_other(play, listed, seed, count, head, children):
    rule = moody(seed)

    ranking, rounds = play(setwise_sliding(listed(count), head=head, children=children), Picks(rule))

    order, asked = list(range(count)), 0
    for place in range(min(head, count)):
        stop = count
        while stop - place > 1:
            start = max(place, stop - children - 1)
            [index] = rule(order[start:stop])
            order.insert(start, order.pop(start + index))
            asked += 1
            stop -= children
    best = order[:head]
    assert ids(ranking) == best + [index for index in range(count) if index not in best]
    assert sum(map(len, rounds)) == asked


@pytest.mark.parametrize(
    ("count", "head", "children"), [(100, 10, 1), (100, 10, 9), (100, 3, 25), (11, 10, 1), (13, 4, 9)]
)
def test_the_rounds_of_sliding(play, listed, count, head, children):
    _, rounds = play(setwise_sliding(listed(count), head=head, children=children), Picks(moody(0)))

    assert len(rounds) == ceil((count - head) / children) + 2 * (head - 1)


@given(seed=st.integers(0, 10**6), count=st.integers(0, 24), head=st.integers(1, 26), children=st.integers(1, 8))
def test_heapsort_is_floyds_build_and_one_sift_after_the_other(play, listed, seed, count, head, children):
    rule = moody(seed)

    ranking, rounds = play(setwise_heapsort(listed(count), head=head, children=children), Picks(rule))

    heap, asked, best = list(range(count)), 0, []
    for node in range(count - 1, -1, -1):
        asked += sift(heap, node, children, rule)
    while heap and len(best) < head:
        best.append(heap[0])
        last = heap.pop()
        if heap and len(best) < head:
            heap[0] = last
            asked += sift(heap, 0, children, rule)
    assert ids(ranking) == best + [index for index in range(count) if index not in best]
    assert sum(map(len, rounds)) == asked


def sift(heap: list[int], node: int, children: int, rule) -> int:
    asked = 0
    while children * node + 1 < len(heap):
        family = [node, *range(children * node + 1, min(children * (node + 1) + 1, len(heap)))]
        [index] = rule([heap[member] for member in family])
        asked += 1
        if index == 0:
            break
        heap[node], heap[family[index]] = heap[family[index]], heap[node]
        node = family[index]
    return asked


@given(relevances=st.lists(st.integers(0, 2), max_size=20), children=st.integers(1, 6))
def test_documents_that_tie_keep_the_incoming_order_when_sliding(play, listed, relevances, children):
    judge = Oracle({"query": {str(index): relevance for index, relevance in enumerate(relevances)}})

    ranking, _ = play(setwise_sliding(listed(len(relevances)), head=20, children=children), judge)

    assert ids(ranking) == sorted(range(len(relevances)), key=lambda index: -relevances[index])


@pytest.mark.parametrize("algorithm", BOTH)
def test_what_is_below_the_head_stays_in_its_old_order(play, listed, algorithm):
    judge = Oracle({"query": {str(index): index for index in range(30)}})

    ranking, _ = play(algorithm(listed(30), head=3, children=25), judge)

    assert ids(ranking) == [29, 28, 27, *range(27)]


@pytest.mark.parametrize("algorithm", BOTH)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"children": 0}, "children=0; a question has from 1 to 25"),
        ({"children": 26}, "children=26; a question has from 1 to 25"),
        ({"head": 0}, "head=0; choose at least 1"),
    ],
)
def test_options_out_of_range_are_refused(play, listed, algorithm, options, message):
    with pytest.raises(InputError, match=message):
        play(algorithm(listed(3), **options), Oracle({}))


@pytest.mark.parametrize("algorithm", BOTH)
@pytest.mark.parametrize("indices", [(), (0, 1), (3,), (-1,)])
def test_a_pick_of_what_was_not_shown_is_the_judges_error(play, listed, algorithm, indices):
    with pytest.raises(JudgeError, match=r"Pick of query 'query' was answered with .* one index below 3"):
        play(algorithm(listed(3)), Picks(lambda shown: indices))


class Votes:
    """A judge whose votes are said by a rule: (ids shown, draw) -> index, or None for what cannot be read."""

    key, answers, reads_ids = "votes", frozenset({Pick}), True

    def __init__(self, rule):
        self.rule = rule
        self.asked = []

    def answer(self, questions, bill):
        for index, question in enumerate(questions):
            shown = [int(document.doc_id) for document in question.documents]
            self.asked.append((shown, question.draw))
            choice = self.rule(shown, question.draw)
            yield index, Picked((), repairs=("no choice",)) if choice is None else Picked((choice,))


@pytest.mark.parametrize("algorithm", BOTH)
def test_the_most_votes_win_and_what_cannot_be_read_does_not_count(play, listed, algorithm):
    judge = Votes(lambda shown, draw: [shown.index(max(shown)), None, shown.index(max(shown)), 0, 0][draw])

    ranking, _ = play(algorithm(listed(3), head=1, votes=5), judge)
    assert ids(ranking)[0] == 0  # two votes each: the one that stands higher

    ranking, _ = play(algorithm(listed(3), head=1, votes=4), judge)
    assert ids(ranking)[0] == 2
    assert [draw for _, draw in judge.asked[-4:]] == [0, 1, 2, 3]


@pytest.mark.parametrize("algorithm", BOTH)
def test_the_parent_stays_where_nothing_can_be_read(play, listed, algorithm):
    ranking, _ = play(algorithm(listed(9), votes=2, shuffle=True, seed=3), Votes(lambda shown, draw: None))

    assert set(ids(ranking)) == set(range(9))
    assert ids(ranking)[0] == 0


def test_documents_are_shown_in_orders_drawn_from_the_seed_the_vote_and_the_comparison(play, listed):
    def shown(**options):
        judge = Votes(lambda shown, draw: shown.index(min(shown)))
        ranking, _ = play(setwise_sliding(listed(20), head=1, children=19, shuffle=True, **options), judge)
        assert ids(ranking) == list(range(20))
        return [order for order, _ in judge.asked]

    [first] = shown()
    assert sorted(first) == list(range(20)) != first
    assert shown() == [first]
    assert shown(seed=1) != [first]
    one, two = shown(votes=2)
    assert one == first != two


def test_a_choice_is_asked_at_least_once(play, listed):
    with pytest.raises(InputError, match="votes=0; a choice is asked at least once"):
        play(setwise_heapsort(listed(3), votes=0), Votes(lambda shown, draw: 0))
