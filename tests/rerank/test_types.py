"""The nouns check themselves: what a `Ranking` holds need not be looked at again."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from rerank.errors import InputError
from rerank.types import Candidate, Document, Query, Ranking

QUERY = Query("q", "words")
A, B = Document("a", "first"), Document("b", "second", "title")


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (Query, (1, "x"), "the query_id is 1; a str is wanted"),
        (Query, ("1", None), "the text of query_id '1' is None; a str is wanted"),
        (Query, ("1", "x", None), "the instruction of query_id '1' is None; a str is wanted"),
        (Query, ("1", " "), "query '1' has no text"),
        (Document, (1, "x"), "the doc_id is 1; a str is wanted"),
        (Document, ("1", None), "the text of doc_id '1' is None; a str is wanted"),
        (Document, ("1", "x", b"t"), "the title of doc_id '1' is b't'; a str is wanted"),
        (Candidate, ("a", 1.0), "a candidate's document is 'a'; a Document is wanted"),
        (Ranking, ("q", ()), "the query of a ranking is 'q'; a Query is wanted"),
        (Ranking, (QUERY, None), "the candidates of query 'q' are None; an iterable is wanted"),
        (Ranking, (QUERY, [A]), "query 'q' has Document(doc_id='a', text='first', title='') among its candidates"),
    ],
)
def test_what_is_of_another_type_is_refused_with_its_value(kind, values, says):
    with pytest.raises(InputError) as caught:
        kind(*values)

    assert says in str(caught.value)


@pytest.mark.parametrize("score", [3, np.float32(3), np.float64(3), np.int64(3), Fraction(3), Decimal(3)])
def test_a_score_is_kept_as_pythons_own_float(score):
    assert type(Candidate(A, score).score) is float
    assert Candidate(A, score) == Candidate(A, 3.0)
    assert type(Ranking.by_score(QUERY, [A], [score])[0].score) is float


@pytest.mark.parametrize(
    "score", [True, np.True_, "3", 10**400, pytest.param(10**6000, id="6000 digits"), 1j, [1.0], np.zeros(2)]
)
def test_a_score_that_is_no_float_is_refused(score):
    with pytest.raises(InputError, match=r"document 'a' has a score that is .*; a float is wanted"):
        Candidate(A, score)
    with pytest.raises(InputError, match=r"document 'a' has a score that is .*; a float is wanted"):
        Ranking.by_score(QUERY, [A], [score])


def test_by_score_wants_a_score_for_every_document():
    with pytest.raises(InputError, match="document 'a' has a score that is None"):
        Ranking.by_score(QUERY, [A], [None])


@pytest.mark.parametrize("given", [list, iter, lambda candidates: Ranking(QUERY, candidates)])
def test_candidates_may_be_any_iterable_and_are_kept_as_a_tuple(given):
    candidates = (Candidate(A, 2.0), Candidate(B))

    ranking = Ranking(QUERY, given(candidates))

    assert ranking.candidates == candidates
    assert hash(ranking) == hash(Ranking(QUERY, candidates))


def test_a_new_order_holds_the_documents_themselves():
    ranking = Ranking.unscored(QUERY, [A, B])

    assert Ranking.by_order(ranking, [B, A]).documents == (B, A)
    for order in ([A], [A, A], [A, B, B], [A, Document("b", "other", "title")], [A, Document("b", "second")]):
        with pytest.raises(InputError, match="the new order of query 'q' does not hold the documents of the old one"):
            Ranking.by_order(ranking, order)
