"""Top-down partitions, tournaments, blocks, groups and exclusion: who meets whom, and what comes of it."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.algorithms.blocks import blocks, design_of
from rerank.algorithms.groups import exclusion, group_scores
from rerank.algorithms.topdown import top_down
from rerank.algorithms.tournament import points, tournament
from rerank.errors import InputError
from rerank.evaluate import evaluate
from rerank.judges.fake import Oracle
from rerank.questions import GradedSet, GradeSet, Pick


def oracle(count: int, worth=lambda index, count: 37 * index % count, noise: float = 0.0) -> Oracle:
    return Oracle({"query": {str(index): worth(index, count) for index in range(count)}}, noise=noise)


def ids(ranking) -> list[int]:
    return [int(document.doc_id) for document in ranking.documents]


def shown(question) -> list[int]:
    return [int(document.doc_id) for document in question.documents]


def test_top_down_holds_everything_against_the_pivot_of_the_first_window(play, listed):
    """Worth is the index: the first window, turned round, has 10 at rank 10, and all beyond 19 beat it."""
    _, rounds = play(top_down(listed(58)), oracle(58, lambda index, count: index))

    assert [shown(question) for question in rounds[0]] == [list(range(20))]
    assert [shown(question) for question in rounds[1]] == [[10, *range(20, 39)], [10, *range(39, 58)]]


def test_top_down_leaves_the_losers_below_the_pivot_that_beat_them(play, listed):
    """Worth falls with the index: nobody beats the pivot, and two rounds with the last one settle the list."""
    ranking, rounds = play(top_down(listed(39)), oracle(39, lambda index, count: -index + 100))

    assert ids(ranking) == list(range(39))
    assert len(rounds) == 3


def test_a_tournament_asks_again_only_where_members_changed(play, listed):
    """25 documents: five groups, their two best in two groups, their four in one; then two or three groups a pop."""
    _, rounds = play(tournament(listed(25), head=2), oracle(25))

    assert [len(questions) for questions in rounds[:3]] == [5, 2, 1]
    assert all(len(questions) == 1 for questions in rounds[3:])
    assert len(rounds) <= 6


def test_a_group_that_was_seen_is_not_asked_again_in_another_order(play, listed):
    _, rounds = play(tournament(listed(40), head=40), oracle(40))

    groups = [frozenset(shown(question)) for questions in rounds for question in questions]
    assert len(groups) == len(set(groups))


def test_points_for_a_hundred_documents_as_published(play, listed):
    ranking, rounds = play(points(listed(100), tournaments=1), oracle(100))

    asked = [[(len(question.documents), question.count) for question in questions] for questions in rounds]
    assert asked == [[(20, 10)] * 5, [(10, 4)] * 5, [(20, 10)], [(10, 5)], [(5, 2)]]
    assert ranking[0].score == 5.0
    assert Counter(candidate.score for candidate in ranking) == {0.0: 50, 1.0: 30, 2.0: 10, 3.0: 5, 4.0: 3, 5.0: 2}


def test_points_show_documents_in_another_order_in_each_tournament(play, listed):
    _, rounds = play(points(listed(100), tournaments=2), oracle(100))

    assert shown(rounds[0][0]) != shown(rounds[0][5])
    assert sorted(shown(rounds[0][0])) == sorted(shown(rounds[0][5])) == list(range(0, 100, 5))


@given(count=st.integers(2, 60), block=st.integers(2, 20), replication=st.integers(1, 4), seed=st.integers(0, 9))
def test_equi_replicate_shows_every_document_equally_often(count, block, replication, seed):
    made = design_of(count, design="equi-replicate", block=block, replication=replication, seed=seed)

    met = Counter(index for members in made for index in members)
    assert all(len(set(members)) == len(members) <= block for members in made)
    assert set(met) <= set(range(count))
    assert max(met.values()) <= replication
    assert sum(replication - met[index] for index in range(count)) <= replication  # blocks of one have nothing to say


@pytest.mark.parametrize(("design", "count", "made"), [("latin", 100, (20, 10)), ("triangular", 45, (10, 9))])
def test_block_designs_let_every_document_meet_as_many_others(design, count, made):
    members = design_of(count, design=design, block=2, replication=1, seed=0)

    assert (len(members), {len(block) for block in members}) == (made[0], {made[1]})
    assert set(Counter(index for block in members for index in block).values()) == {2}
    meetings = Counter(frozenset(pair) for block in members for pair in combinations(block, 2))
    assert set(meetings.values()) == {1}


@pytest.mark.parametrize("aggregate", ["win-rate", "bradley-terry", "elo", "page-rank"])
def test_blocks_of_a_perfect_judge_find_most_of_what_is_there(play, listed, aggregate):
    """Nothing is promised; with 20 questions about 100 documents nDCG@10 stays above .9."""
    count = 100
    qrels = {"query": {str(index): max(0, 37 * index % count - 85) for index in range(count)}}

    ranking, [questions] = play(blocks(listed(count), aggregate=aggregate), Oracle(qrels))

    assert len(questions) == 20
    assert evaluate(qrels, {"query": ranking}).means["nDCG@10"] > 0.9


def test_points_of_a_perfect_judge_find_most_of_what_is_there(play, listed):
    count = 100
    qrels = {"query": {str(index): max(0, 37 * index % count - 85) for index in range(count)}}

    ranking, _ = play(points(listed(count)), Oracle(qrels))

    assert evaluate(qrels, {"query": ranking}).means["nDCG@10"] > 0.9


class Ruler:
    """Scores a set by where its documents stand in it, so that averages over deals show."""

    key, answers, reads_ids = "ruler", frozenset({GradeSet}), True

    def answer(self, questions, bill):
        for index, question in enumerate(questions):
            yield index, GradedSet(tuple(float(place) for place in range(len(question.documents))))


def test_group_scores_are_the_mean_over_epochs(play, listed):
    ranking, [questions] = play(group_scores(listed(5), group=2, epochs=3), Ruler())

    places = {index: [] for index in range(5)}
    for question in questions:
        for place, index in enumerate(shown(question)):
            places[index].append(place)
    assert [len(question.documents) for question in questions] == [2, 2, 1] * 3
    assert {int(candidate.document.doc_id): candidate.score for candidate in ranking} == {
        index: sum(had) / 3 for index, had in places.items()
    }


def test_a_group_of_zero_reads_the_whole_list(play, listed):
    _, [[question]] = play(group_scores(listed(33), group=0), Ruler())

    assert shown(question) == list(range(33))


def test_exclusion_asks_for_the_worst_of_those_left(play, listed):
    ranking, rounds = play(exclusion(listed(4)), oracle(4, lambda index, count: index))

    assert [shown(*questions) for questions in rounds] == [[0, 1, 2, 3], [1, 2, 3], [2, 3]]
    assert all(isinstance(question, Pick) and question.worst for [question] in rounds)
    assert ids(ranking) == [3, 2, 1, 0]


def test_options_that_make_no_sense_are_refused(listed):
    for plan, said in [
        (top_down(listed(30), window=10, pivot=10), "pivot=10 of a window of 10"),
        (tournament(listed(30), winners=5), "winners=5 of a group of 5"),
        (points(listed(30), tournaments=0), "tournaments=0"),
        (blocks(listed(30), design="square"), "no design 'square'; there is equi-replicate"),
        (blocks(listed(30), aggregate="wins"), "aggregate='wins'; there is win-rate"),
        (blocks(listed(30), block=1), "block=1"),
        (group_scores(listed(30), epochs=0), "epochs=0"),
    ]:
        with pytest.raises(InputError, match=said):
            next(plan)
