"""EcoRank's two stages: what a budget pays for, and where documents go."""

from __future__ import annotations

import math

import pytest

from rerank.algorithms.budgeted import budgeted_pairs, triage
from rerank.errors import InputError
from rerank.judges.fake import Oracle
from rerank.questions import Compare, Compared, Grade, Graded
from rerank.types import Document, Query, Ranking


class Yes:
    """A judge that says yes to some documents, with log P as `target-token` does."""

    key, answers, reads_ids = "yes", frozenset({Grade}), True

    def __init__(self, *yes: str):
        self.yes = yes

    def answer(self, questions, bill):
        for index, question in enumerate(questions):
            yield index, Graded(math.log(0.9 if question.document.doc_id in self.yes else 0.1))


def ids(ranking) -> list[str]:
    return [document.doc_id for document in ranking.documents]


def words(count: int, *lengths: int) -> Ranking:
    """Documents "0", "1" … of so many words, for a query of `count`."""
    documents = [Document(str(index), " ".join(["word"] * length)) for index, length in enumerate(lengths)]
    return Ranking.unscored(Query("query", " ".join(["why"] * count)), documents)


def test_a_yes_stands_before_what_nobody_asked_about_and_a_no_behind(play, listed):
    ranking, rounds = play(triage(listed(6), questions=4, words=0), Yes("1", "3", "5"))

    assert ids(ranking) == ["1", "3", "4", "5", "0", "2"]
    assert [len(questions) for questions in rounds] == [4]


def test_words_are_counted_before_they_are_spent(play):
    given = words(2, 10, 20, 5, 1)  # questions of 28, 38, 23 and 19 words

    for limit, asked in ((27, 0), (28, 1), (65, 1), (66, 2), (88, 2), (89, 3), (108, 4), (9999, 4)):
        _, rounds = play(triage(given, words=limit), Yes())
        assert sum(map(len, rounds)) == asked


def test_a_threshold_is_the_least_score_of_a_yes(play, listed):
    oracle = Oracle({"query": {"0": 1, "2": 3}})

    assert ids(play(triage(listed(3), threshold=2.0), oracle)[0]) == ["2", "0", "1"]
    assert ids(play(triage(listed(3), threshold=1.0), oracle)[0]) == ["0", "2", "1"]


def test_the_better_of_two_neighbours_rises_as_often_as_is_paid_for(play, listed):
    oracle = Oracle({"query": {str(index): index for index in range(5)}})

    def ranked(questions: int) -> tuple[list[str], int]:
        ranking, rounds = play(budgeted_pairs(listed(5), words=0, questions=questions), oracle)
        return ids(ranking), sum(map(len, rounds))

    assert ranked(4) == (["4", "0", "1", "2", "3"], 4)
    assert ranked(6) == (["4", "1", "0", "2", "3"], 6)  # what is left goes over the top three
    assert ranked(99) == (["4", "3", "2", "1", "0"], 16)


def test_a_pair_is_asked_once_the_lower_document_first_and_stays_where_nothing_can_be_read(play, listed):
    class Unreadable:
        key, answers, reads_ids = "unreadable", frozenset({Compare}), True

        def answer(self, questions, bill):
            yield from ((index, Compared(None, ("no winner",))) for index, _ in enumerate(questions))

    ranking, rounds = play(budgeted_pairs(listed(4), words=0, questions=3), Unreadable())

    assert ids(ranking) == ["0", "1", "2", "3"]
    assert [(pair.first.doc_id, pair.second.doc_id) for [pair] in rounds] == [("3", "2"), ("2", "1"), ("1", "0")]


def test_pairs_are_counted_in_words_too(play):
    given = words(2, 10, 20, 5)  # pairs of 59 and 54 words, in this order again and again
    oracle = Oracle({})

    for limit, asked in ((58, 0), (59, 1), (112, 1), (113, 2), (171, 2), (172, 3), (226, 4), (9999, 4)):
        _, rounds = play(budgeted_pairs(given, words=limit), oracle)
        assert sum(map(len, rounds)) == asked


@pytest.mark.parametrize("algorithm", [triage, budgeted_pairs])
@pytest.mark.parametrize("options", [{"words": 0}, {"words": -1}, {"questions": -1}])
def test_a_budget_without_a_limit_is_refused(play, listed, algorithm, options):
    with pytest.raises(InputError, match="give one of them, above 0"):
        play(algorithm(listed(3), **options), Oracle({}))
