"""Pairs in both orders: who wins, who moves, and who stays where the first stage put it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.algorithms.pairs import all_pairs
from rerank.algorithms.sorting import heapsort, sliding_k
from rerank.errors import InputError, JudgeError
from rerank.judges.fake import Oracle
from rerank.questions import Compare, Compared, Graded

SORTS = [heapsort, sliding_k]


class Pairs:
    """A judge that knows P(first wins) of pairs of ids, and says 0.5 of all others."""

    key, answers, reads_ids = "pairs", frozenset({Compare}), True

    def __init__(self, known=()):
        self.known = dict(known)

    def probability(self, first: str, second: str) -> float | None:
        return self.known.get((first, second), 0.5)

    def answer(self, questions, bill):
        for index, question in enumerate(questions):
            yield index, Compared(self.probability(question.first.doc_id, question.second.doc_id))


class Moody(Pairs):
    """Says anything of any pair, in either order, but always the same."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def probability(self, first: str, second: str) -> float | None:
        digest = hashlib.sha256(f"{self.seed} {first} {second}".encode()).digest()
        return (0.0, 1.0, 0.9, 0.1, 0.5, None)[digest[0] % 6]

    def beats(self, first: int, second: int) -> bool:
        """Whether both orders say so."""
        there, back = self.probability(str(first), str(second)), self.probability(str(second), str(first))
        return there is not None and back is not None and there > 0.5 > back


def ids(ranking) -> list[int]:
    return [int(document.doc_id) for document in ranking.documents]


def test_all_pairs_counts_wins(play, listed):
    """1 beats both; 0 and 2 are told apart in one order only."""
    known = {("1", "0"): 0.8, ("0", "1"): 0.1, ("1", "2"): 1.0, ("2", "1"): 0.0, ("0", "2"): 0.9, ("2", "0"): 0.6}

    ranking, rounds = play(all_pairs(listed(3)), Pairs(known))

    assert [(candidate.document.doc_id, candidate.score) for candidate in ranking] == [("1", 2), ("0", 0.5), ("2", 0.5)]
    shown = [(question.first.doc_id, question.second.doc_id) for [*questions] in rounds for question in questions]
    assert sorted(shown) == [("0", "1"), ("0", "2"), ("1", "0"), ("1", "2"), ("2", "0"), ("2", "1")]


@pytest.mark.parametrize(
    ("there", "back", "wins"),
    [
        (1.0, 0.0, (1.0, 0.0)),
        (0.0, 1.0, (0.0, 1.0)),
        (0.51, 0.49, (1.0, 0.0)),
        (1.0, 1.0, (0.5, 0.5)),
        (0.0, 0.0, (0.5, 0.5)),
        (1.0, 0.5, (0.5, 0.5)),
        (0.5, 0.0, (0.5, 0.5)),
        (None, 0.0, (0.5, 0.5)),
        (1.0, None, (0.5, 0.5)),
        (None, None, (0.5, 0.5)),
    ],
)
def test_a_win_is_what_both_orders_say(play, listed, there, back, wins):
    judge = Pairs({("0", "1"): there, ("1", "0"): back})

    scored, _ = play(all_pairs(listed(2)), judge)
    sorted_by = [play(algorithm(listed(2)), judge)[0] for algorithm in SORTS]

    scores = {candidate.document.doc_id: candidate.score for candidate in scored}
    assert (scores["0"], scores["1"]) == wins
    for ranking in sorted_by:
        assert ids(ranking) == ([1, 0] if wins == (0.0, 1.0) else [0, 1])
        assert all(candidate.score is None for candidate in ranking)


@pytest.mark.parametrize("algorithm", [all_pairs, *SORTS])
def test_both_orders_of_a_pair_are_asked_in_one_round(play, listed, algorithm):
    _, rounds = play(algorithm(listed(30)), Moody(1))

    for questions in rounds:
        shown = {(question.first.doc_id, question.second.doc_id) for question in questions}
        assert len(shown) == len(questions)
        assert shown == {(second, first) for first, second in shown}


@given(seed=st.integers(0, 10**6), count=st.integers(0, 24), head=st.integers(1, 26))
def test_sliding_k_is_one_pass_after_the_other(play, listed, seed, count, head):
    judge = Moody(seed)

    ranking, rounds = play(sliding_k(listed(count), head=head), judge)

    order, asked = list(range(count)), 0
    for place in range(min(head, count)):
        for lower in range(count - 1, place, -1):
            asked += 2
            if judge.beats(order[lower], order[lower - 1]):
                order[lower - 1 : lower + 1] = order[lower], order[lower - 1]
    best = order[:head]
    assert ids(ranking) == best + [index for index in range(count) if index not in best]
    assert sum(map(len, rounds)) == asked


@given(seed=st.integers(0, 10**6), count=st.integers(0, 24), head=st.integers(1, 26))
def test_heapsort_is_floyds_build_and_one_sift_after_the_other(play, listed, seed, count, head):
    judge = Moody(seed)

    ranking, rounds = play(heapsort(listed(count), head=head), judge)

    heap, asked, best = list(range(count)), 0, []
    for node in range(count - 1, -1, -1):
        asked += sift(heap, node, judge)
    while heap and len(best) < head:
        best.append(heap[0])
        last = heap.pop()
        if heap and len(best) < head:
            heap[0] = last
            asked += sift(heap, 0, judge)
    assert ids(ranking) == best + [index for index in range(count) if index not in best]
    assert sum(map(len, rounds)) == asked


def sift(heap: list[int], node: int, judge: Moody) -> int:
    """The textbook's, in a loop; returns the questions it asks."""
    asked = 0
    while True:
        largest = node
        for child in (2 * node + 1, 2 * node + 2):
            if child < len(heap):
                asked += 2
                largest = child if judge.beats(heap[child], heap[largest]) else largest
        if largest == node:
            return asked
        heap[node], heap[largest] = heap[largest], heap[node]
        node = largest


@given(relevances=st.lists(st.integers(0, 2), max_size=20))
def test_documents_that_tie_keep_the_incoming_order(play, listed, relevances):
    count = len(relevances)
    judge = Oracle({"query": {str(index): relevance for index, relevance in enumerate(relevances)}})

    expected = sorted(range(count), key=lambda index: -relevances[index])

    assert ids(play(all_pairs(listed(count)), judge)[0]) == expected
    assert ids(play(sliding_k(listed(count), head=20), judge)[0]) == expected


@pytest.mark.parametrize("algorithm", SORTS)
def test_what_is_below_the_head_stays_in_its_old_order(play, listed, algorithm):
    judge = Oracle({"query": {str(index): index for index in range(30)}})

    ranking, _ = play(algorithm(listed(30), head=3), judge)

    assert ids(ranking) == [29, 28, 27, *range(27)]


@pytest.mark.parametrize("algorithm", SORTS)
@pytest.mark.parametrize("head", [0, -3])
def test_a_head_without_a_position_is_refused(play, listed, algorithm, head):
    with pytest.raises(InputError, match=f"head={head}; choose at least 1"):
        play(algorithm(listed(3), head=head), Pairs())


@pytest.mark.parametrize("algorithm", [all_pairs, *SORTS])
def test_an_answer_of_another_kind_is_the_judges_error(play, listed, algorithm):
    judge = Pairs()
    judge.answer = lambda questions, bill: ((index, Graded(1.0)) for index, _ in enumerate(questions))

    with pytest.raises(JudgeError, match="answered a Compare with Graded"):
        play(algorithm(listed(3)), judge)
