"""Negatives are what the rules say, each once, drawn from the seed, and never relevant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank.errors import FileError, InputError
from rerank.types import Document, Query, Ranking
from training.examples import Example
from training.mining import Negatives, Rules, mine, sample

QRELS = {"q": {"d2": 1}}
FALLING = tuple(float(10 - rank) for rank in range(8))


def ranking(scores: Sequence[float] = FALLING, query_id: str = "q", texts: Mapping[str, str] | None = None) -> Ranking:
    """d0, d1, … in this order; a document's text is its id unless another is said."""
    documents = [Document(f"d{index}", (texts or {}).get(f"d{index}", f"text {index}")) for index in range(len(scores))]
    return Ranking.by_score(Query(query_id, f"words of {query_id}"), documents, scores)


def mined(rules: Rules, given: Ranking | None = None, qrels: Any = QRELS, **options: Any) -> tuple[list[Example], Any]:
    stream = mine([given or ranking()], qrels, rules=rules, **options)
    return list(stream), stream.counts


def ids(example: Example) -> str:
    return " ".join(example.doc_ids or ())


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (Rules(negatives=3), "d2 d0 d1 d3"),
        (Rules(negatives=3, first_rank=2, last_rank=4), "d2 d1 d3"),
        (Rules(negatives=3, margin=1.0), "d2 d3 d4 d5"),  # the positive scores 8
        (Rules(negatives=3, margin=2.5), "d2 d5 d6 d7"),
        (Rules(negatives=3, margin=-2.0), "d2 d0 d1 d3"),
        (Rules(negatives=3, relative_margin=0.25), "d2 d4 d5 d6"),  # at most 6
        (Rules(negatives=9, max_score=9.0, min_score=6.0), "d2 d1 d3 d4"),
    ],
)
def test_negatives_are_the_best_that_the_rules_allow(rules: Rules, expected: str) -> None:
    [example], _ = mined(rules)

    assert ids(example) == expected
    assert example.relevance == (1.0,) + (0.0,) * (len(example) - 1)
    assert (example.query, example.query_id, example.documents[0]) == ("words of q", "q", "text 2")


def test_the_relative_margin_is_that_of_sentence_transformers_and_nv_retriever() -> None:
    """TopK-PercPos of 95 %: a negative scores at most .95 of the positive's score."""
    scores = (0.9, 0.8, 0.76, 0.7599, 0.5)

    [example], counts = mined(Rules(negatives=5, relative_margin=0.05), ranking(scores), {"q": {"d1": 1}})

    assert ids(example) == "d1 d2 d3 d4"
    assert counts.notes == {"candidates too near to the positive": 1, "negatives fewer than asked for": 2}


def test_a_relative_margin_of_a_score_below_0_would_turn_round_and_is_refused() -> None:
    with pytest.raises(FileError, match=r"a relative margin needs scores above 0: use margin"):
        mined(Rules(relative_margin=0.05), ranking((-1.0, -2.0, -3.0)))


def test_what_is_judged_at_all_relevant_is_no_negative_even_where_it_is_no_positive() -> None:
    [example], _ = mined(Rules(negatives=2, relevant_from=2), qrels={"q": {"d2": 2, "d0": 1, "d1": 0}})

    assert ids(example) == "d2 d1 d3"


def test_each_positive_has_an_example_or_all_have_one() -> None:
    qrels = {"q": {"d2": 1, "d4": 1}}

    each, _ = mined(Rules(negatives=1, margin=1.0), qrels=qrels)
    [together], _ = mined(Rules(negatives=1, margin=1.0, positives="together"), qrels=qrels)

    assert [ids(example) for example in each] == ["d2 d3", "d4 d5"]
    assert (ids(together), together.relevance) == ("d2 d4 d5", (1, 1, 0))  # the margin is kept to d4


def test_documents_of_one_text_stand_once_and_never_beside_a_positive_of_that_text() -> None:
    given = ranking(texts={"d0": "Text  2", "d3": "same", "d4": "SAME ", "d5": " "})

    [example], counts = mined(Rules(negatives=3), given)

    assert ids(example) == "d2 d1 d3 d6"
    assert counts.notes == {"candidates without a text of their own": 3}


def test_positives_that_were_not_retrieved_are_looked_up() -> None:
    class Texts:
        def find(self, ids: Any) -> dict[str, str]:
            return {"far": "far away"} if "far" in ids else {}

    qrels = {"q": {"far": 1, "nowhere": 1}}
    [example], counts = mined(Rules(negatives=1), qrels=qrels, texts=Texts())
    without = mine([ranking(), ranking(query_id="q2")], qrels | {"q2": {"d1": 1}}, rules=Rules(negatives=1))

    assert (ids(example), example.documents[0]) == ("far d0", "far away")
    assert counts.refused == {"unknown document": 1}
    assert [ids(one) for one in without] == ["d1 d0"]
    assert without.counts.refused == {"unknown document": 2}
    with pytest.raises(FileError, match="positive without a score"):
        mined(Rules(margin=1.0), qrels=qrels, texts=Texts())


def test_a_teacher_filters_false_negatives_and_labels() -> None:
    teacher = {"q": {f"d{index}": score for index, score in enumerate((9.0, -5.0, 4.0, 3.9, -1.0, -2.0, -3.0, -4.0))}}

    [example], counts = mined(Rules(negatives=3, margin=1.0), teacher=teacher)

    assert (ids(example), example.scores) == ("d2 d1 d4 d5", (4.0, -5.0, -1.0, -2.0))  # in the order of the ranking
    assert counts.notes == {"candidates too near to the positive": 2}
    with pytest.raises(InputError, match=r"document 'd0' of query 'q' has no score.*give a teacher that scores"):
        mined(Rules(negatives=3, max_score=1.0), teacher={"q": {"d2": 1.0}})


def test_a_teacher_is_asked_about_candidates_and_positives() -> None:
    asked: list[list[str]] = []

    def teacher(rankings: Sequence[Ranking]) -> list[dict[str, float]]:
        asked.extend([document.doc_id for document in one.documents] for one in rankings)
        return [{document.doc_id: -float(index) for index, document in enumerate(one.documents)} for one in rankings]

    class Texts:
        def find(self, ids: Any) -> dict[str, str]:
            return {"far": "far away"}

    examples, counts = mined(
        Rules(negatives=2, consistent_within=8), qrels={"q": {"far": 1, "d3": 1}}, texts=Texts(), teacher=teacher
    )

    assert asked == [[*(f"d{index}" for index in range(8)), "far"]]
    assert [ids(example) for example in examples] == ["d3 d0 d1"]
    assert counts.refused == {"positive ranked too low": 1}  # the teacher puts it at rank 9
    assert examples[0].scores == (-3.0, 0.0, -1.0)


@pytest.mark.parametrize(("within", "kept"), [(2, False), (3, True)])
def test_consistency_keeps_queries_whose_positive_is_found(within: int, kept: bool) -> None:
    stream = mine([ranking(), ranking(query_id="p")], QRELS | {"p": {"d0": 1}}, rules=Rules(consistent_within=within))

    assert [one.query_id for one in stream] == (["q", "p"] if kept else ["p"])
    assert stream.counts.refused == ({} if kept else {"positive ranked too low": 1})


def test_a_positive_must_score_what_is_wanted() -> None:
    with pytest.raises(FileError, match=r"positive ranked too low: 'd2' scores 8.000"):
        mined(Rules(positive_min=8.5))


def test_random_negatives_come_from_the_whole_collection() -> None:
    corpus = [Document("d1", "text 1"), Document("c0", "TEXT 2"), Document("c1", "other"), Document("c2", "another")]

    [example], counts = mined(Rules(negatives=1, randoms=3), corpus=corpus)

    assert ids(example).startswith("d2 d0 ")
    assert set((example.doc_ids or ())[2:]) == {"c1", "c2"}  # d1 was retrieved, c0 has the positive's text
    assert counts.notes == {"negatives fewer than asked for": 1}
    with pytest.raises(InputError, match="give a sample of the collection"):
        mine([ranking()], QRELS, rules=Rules(randoms=1))


def test_too_few_negatives_are_refused() -> None:
    with pytest.raises(FileError, match=r"too few negatives: 2 beside 'd2', at least 3 are wanted"):
        mined(Rules(negatives=3, first_rank=7, least=3))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 5), epoch=st.integers(0, 5), negatives=st.integers(1, 9), others=st.integers(0, 3))
def test_what_is_drawn_depends_on_seed_epoch_and_query_alone(
    seed: int, epoch: int, negatives: int, others: int
) -> None:
    rules = Rules(negatives=negatives, sampling="random")
    company = [ranking(query_id=f"other {number}") for number in range(others)]
    qrels = QRELS | {one.query.query_id: {"d0": 1} for one in company}

    alone = list(mine([ranking()], QRELS, rules=rules, seed=seed, epoch=epoch))
    among = list(mine([*company, ranking()], qrels, rules=rules, seed=seed, epoch=epoch))

    assert among[-1] == alone[0]
    chosen = (alone[0].doc_ids or ())[1:]
    assert len(set(chosen)) == len(chosen) == min(negatives, 7)
    assert "d2" not in chosen
    assert list(chosen) == sorted(chosen)  # in the order of the ranking


def test_static_sets_are_drawn_anew_each_epoch_from_the_same_candidates() -> None:
    negatives = Negatives.static([ranking()], QRELS, rules=Rules(negatives=3, sampling="random", last_rank=6))

    drawn = [ids(example) for epoch in range(6) for example in negatives.examples(epoch)]

    assert len(set(drawn)) > 1
    assert drawn[2:3] == [ids(example) for example in negatives.examples(2)]
    assert all(set(one.split()) <= {f"d{index}" for index in range(6)} for one in drawn)


def test_dynamic_sets_follow_the_model_that_retrieves() -> None:
    class Moving:
        turn = 0

        def retrieve(self, queries: Sequence[Query], cutoff: int, *, exclude: Any = None) -> list[Ranking]:
            self.turn += 1
            scores = [float(index == self.turn) for index in range(cutoff)]
            return [ranking(scores, query.query_id) for query in queries]

    retriever = Moving()
    negatives = Negatives.dynamic(retriever, [Query("q", "words")], QRELS, cutoff=8, every=2, rules=Rules(negatives=1))

    first = [ids(example) for epoch in range(5) for example in negatives.examples(epoch)]

    assert first == ["d2 d1", "d2 d1", "d2 d0", "d2 d0", "d2 d3"]  # d2 itself came first the second time
    assert retriever.turn == 3


def test_a_sample_is_uniform_and_seeded() -> None:
    documents = [Document(str(number), "text") for number in range(20)]

    counted = {str(number): 0 for number in range(20)}
    for seed in range(400):
        for document in sample(iter(documents), 5, seed):
            counted[document.doc_id] += 1

    assert sample(iter(documents), 5, 3) == sample(documents, 5, 3)
    assert sample(documents, 50) == documents
    assert all(60 <= count <= 145 for count in counted.values())  # 100 expected, 8.7 standard deviation


@pytest.mark.parametrize(
    "options",
    [
        {"negatives": 0},
        {"negatives": -1, "randoms": 3},
        {"first_rank": 0},
        {"first_rank": 5, "last_rank": 4},
        {"last_rank": 0},
        {"relative_margin": 1.0},
        {"relative_margin": -0.1},
        {"margin": float("nan")},
        {"sampling": "best"},
        {"positives": "one"},
        {"least": 9},
        {"consistent_within": 0},
    ],
)
def test_rules_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Rules(**options)
