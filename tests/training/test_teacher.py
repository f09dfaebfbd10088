"""Teachers: whatever a reranker says becomes labels of the right documents, once, and again after an interruption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rerank import prompts
from rerank.errors import FileError, InputError
from rerank.judges.fake import Oracle
from rerank.prompts.prompt import Blank
from rerank.questions import Grade, Write, Written
from rerank.rerankers.reranker import Reranker
from rerank.types import Document
from training.examples import Example
from training.mining import Rules, mine
from training.teacher import PairSampler, averaged, best_scored, label, scored_by, write_queries, writing

GRADES = {"q1": {"a": 0, "b": 3, "c": 1}, "q2": {"x": 2, "y": 5}}
EXAMPLES = [
    Example("one", ("text a", "text b", "text c"), relevance=(0, 1, 0), query_id="q1", doc_ids=("a", "b", "c")),
    Example("two", ("text x", "text y"), query_id="q2", doc_ids=("x", "y"), where="file:2"),
]


def teacher(algorithm: str = "pointwise", **options: Any) -> Reranker:
    return Reranker(judge=Oracle(GRADES), algorithm=algorithm, **options)


def test_scores_go_to_their_documents_and_other_labels_stay() -> None:
    first, second = label(EXAMPLES, teacher())

    assert (first.scores, first.relevance) == ((0, 3, 1), (0, 1, 0))
    assert (second.scores, second.where) == ((2, 5), "file:2")


@pytest.mark.parametrize("shuffle", [None, 0, 1])
def test_an_order_holds_the_indices_that_documents_have_in_the_example(shuffle: int | None) -> None:
    labelled = label(EXAMPLES, teacher("full-list"), "order", shuffle=shuffle)

    assert [one.order for one in labelled] == [(1, 2, 0), (1, 0)]


@pytest.mark.parametrize("shuffle", [None, 0, 1])
def test_pairs_say_how_often_the_first_wins(shuffle: int | None) -> None:
    first, second = label(EXAMPLES, teacher(), "pairs", sampler=PairSampler("all"), shuffle=shuffle)

    wins = {(i, j): p for i, j, p in first.pairs or ()} | {(j, i): 1 - p for i, j, p in first.pairs or ()}
    assert (wins[0, 1], wins[0, 2], wins[1, 2]) == (0, 0, 1)
    assert len(first.pairs or ()) == 3
    assert len(second.pairs or ()) == 1


def test_a_pair_whose_orders_do_not_agree_is_a_draw_and_softly_a_mean() -> None:
    class First(Oracle):
        def _look(self, question: Any, document: Document) -> float:
            return float(document == question.documents[0])

    biased = Reranker(judge=First(GRADES))

    [hard, _] = label(EXAMPLES, biased, "pairs", sampler=PairSampler("all"))
    [soft, _] = label(EXAMPLES, biased, "pairs", sampler=PairSampler("all"), soft=True)

    assert {wins for *_, wins in hard.pairs or ()} == {wins for *_, wins in soft.pairs or ()} == {0.5}


def test_without_ids_documents_and_queries_get_numbers() -> None:
    plain = [Example("one", ("a", "b")), Example("two", ("c", "d"))]

    labelled = label(plain, Reranker(judge=Oracle({"0": {"1": 1}, "1": {"0": 1}})))

    assert [one.scores for one in labelled] == [(0, 1), (1, 0)]


@pytest.mark.parametrize("passes", [1, 4, 6])
def test_more_passes_put_more_of_a_list_in_order(passes: int) -> None:
    count = 12
    grades = {"q": {str(index): index for index in range(count)}}
    example = Example(
        "words", tuple(f"text {i}" for i in range(count)), query_id="q", doc_ids=tuple(map(str, range(count)))
    )
    windows = Reranker(judge=Oracle(grades), algorithm="sliding-windows", window=4, step=2)

    [labelled] = label([example], windows, "order", passes=passes)

    wanted = tuple(reversed(range(count)))
    assert (labelled.order or ())[: 2 * passes] == wanted[: 2 * passes]  # a pass puts two more in their places
    assert (labelled.order == wanted) == (passes == 6)


def test_a_full_list_freezes_heads_and_goes_on_with_the_rest() -> None:
    """Windows of 20 that move by 10 over 100 documents: nine passes, of 9, 8, … and 1 windows."""
    grades = {"q": {str(index): (index * 37) % 101 for index in range(100)}}
    ids = tuple(map(str, range(100)))
    example = Example("words", tuple(f"text {i}" for i in ids), query_id="q", doc_ids=ids)
    windows = Reranker(judge=Oracle(grades), algorithm="sliding-windows", window=20, step=10)

    [labelled] = label([example], windows, "order", full_list=True)

    best = sorted(range(100), key=lambda index: -grades["q"][str(index)])
    assert list(labelled.order or ()) == best
    asked = windows.ledger.total
    assert asked["questions"] == sum(range(1, 10))


def test_an_interrupted_labelling_goes_on_from_its_journal(tmp_path: Path) -> None:
    class Counting(Oracle):
        calls = 0

        def answer(self, questions: Sequence[Any], bill: Any) -> Any:
            Counting.calls += len(questions)
            return super().answer(questions, bill)

    def labelled() -> list[Example]:
        with Reranker(judge=Counting(GRADES), journal=tmp_path / "journal") as reranker:
            return [*label(EXAMPLES, reranker), *label(EXAMPLES, reranker, "pairs", sampler=PairSampler("all"))]

    first = labelled()
    asked = Counting.calls
    again = labelled()

    assert (again, Counting.calls) == (first, asked)
    assert asked == 5 + 2 * 4


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        ("ranks", {}, "a teacher gives 'scores', 'order', 'pairs'"),
        ("scores", {"passes": 2}, "for an order"),
        ("pairs", {"full_list": True}, "for an order"),
        ("scores", {"sampler": PairSampler()}, "for pairs"),
        ("order", {"passes": 0}, "at least once"),
    ],
)
def test_options_that_do_not_go_together_are_refused(labels: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        label(EXAMPLES, teacher(), labels, **options)


def test_a_teacher_that_scores_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="puts documents in order and scores none; ask it for labels='order'"):
        list(label(EXAMPLES, teacher("full-list")))


def test_a_teacher_mines() -> None:
    from rerank.types import Query, Ranking

    documents = [Document(name, f"text {name}") for name in ("a", "b", "c")]
    ranking = Ranking.unscored(Query("q1", "one"), documents)

    [example] = mine([ranking], {"q1": {"b": 1}}, rules=Rules(negatives=2, margin=2.5), teacher=scored_by(teacher()))

    assert (example.doc_ids, example.scores) == (("b", "a"), (3, 0))  # c scores 1, 2 below the positive


# which pairs


@pytest.mark.parametrize("strategy", ["uniform", "rank-aware"])
def test_two_percent_of_the_pairs_of_a_hundred_documents_are_99(strategy: str) -> None:
    chosen = PairSampler(strategy, 0.02, seed=3).sample(100, "key")

    assert len(set(chosen)) == len(chosen) == 99
    assert all(0 <= first < second < 100 for first, second in chosen)
    assert chosen == PairSampler(strategy, 0.02, seed=3).sample(100, "key")
    assert chosen != PairSampler(strategy, 0.02, seed=4).sample(100, "key")
    assert chosen != PairSampler(strategy, 0.02, seed=3).sample(100, "another key")


def test_rank_aware_pairs_stand_near_the_head() -> None:
    def mean_rank(strategy: str) -> float:
        drawn = [pair for seed in range(20) for pair in PairSampler(strategy, seed=seed).sample(100)]
        return sum(first + second for first, second in drawn) / len(drawn)

    assert mean_rank("uniform") == pytest.approx(99, abs=4)
    assert mean_rank("rank-aware") < 85


def test_small_lists_have_at_least_one_pair() -> None:
    assert PairSampler().sample(2) == [(0, 1)]
    assert PairSampler().sample(1) == []
    assert len(PairSampler("all").sample(5)) == 10


@pytest.mark.parametrize("options", [{"strategy": "best"}, {"fraction": 0.0}, {"fraction": 1.5}])
def test_samplers_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        PairSampler(**options)


# several teachers


@pytest.mark.parametrize(
    ("normalise", "expected"),
    [
        ("none", (50.0, 101.0, 1.5)),
        ("min-max", (0.5, 1.0, 0.0)),
        ("rank", (0.5, 1.0, 0.0)),
        ("z-score", (0.0, 1.224745, -1.224745)),
    ],
)
def test_teachers_are_averaged_on_one_scale(normalise: str, expected: tuple[float, ...]) -> None:
    texts = ("a", "b", "c")
    large = [Example("words", texts, scores=(98.0, 198.0, -2.0), relevance=(0, 1, 0))]
    small = (
        [Example("words", texts, scores=(2.0, 4.0, 5.0))]
        if normalise == "none"
        else [Example("words", texts, scores=(2.0, 3.0, 1.0))]
    )

    [mean] = averaged([large, small], normalise)

    assert mean.scores == pytest.approx(expected)
    assert mean.relevance == (0, 1, 0)


def test_equal_scores_share_a_rank_and_have_no_spread() -> None:
    texts = ("a", "b", "c")
    streams = [[Example("words", texts, scores=(1, 1, 0))], [Example("words", texts, scores=(7, 7, 7))]]

    assert next(iter(averaged(streams, "rank"))).scores == pytest.approx((0.625, 0.625, 0.25))
    assert next(iter(averaged(streams, "min-max"))).scores == pytest.approx((0.75, 0.75, 0.25))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ([], "unknown query"),
        ([Example("other", ("a",), scores=(1,))], "unknown query"),
        ([Example("words", ("b",), scores=(1,))], "unknown document"),
        ([Example("words", ("a",))], "labels of the wrong kind"),
    ],
)
def test_teachers_of_other_examples_are_refused(other: list[Example], reason: str) -> None:
    with pytest.raises(FileError, match=reason):
        list(averaged([[Example("words", ("a",), scores=(1,))], other]))


# queries that a model writes


class Scribe(Oracle):
    """Writes what its table says of a document, the next one at each draw."""

    def __init__(self, said: dict[str, list[str]]) -> None:
        super().__init__({})
        self.said = said

    def _answer(self, question: Any) -> Any:
        assert isinstance(question, Write)
        return Written(self.said[question.documents[0].doc_id][question.draw])


DOCUMENTS = [Document("d1", "Birds fly over the river"), Document("d2", "Fish swim"), Document("d3", " ")]


def test_queries_are_written_checked_and_counted() -> None:
    said = {
        "d1": ["what flies over rivers?", "birds  fly over", "What flies over rivers?", "too short"],
        "d2": ["which animals\nswim?", "one two three four five six", "who swims in it", "what flies over rivers?"],
    }
    written = write_queries(DOCUMENTS, Reranker(judge=Scribe(said), algorithm=writing), each=4, most_words=5)
    examples = list(written)

    assert [(one.query, one.doc_ids, one.query_id) for one in examples] == [
        ("what flies over rivers?", ("d1",), "d1-1"),
        ("which animals swim?", ("d2",), "d2-1"),
        ("who swims in it", ("d2",), "d2-3"),
    ]
    assert written.counts.refused == {
        "empty document": 1,
        "query copied from its document": 1,
        "query comes again": 2,
        "query too short or too long": 2,
    }
    assert all(one.relevance == (1,) for one in examples)


def test_the_best_queries_are_those_that_a_scorer_finds_likely() -> None:
    examples = [Example(f"query {n}", (f"text {n}",), relevance=(1,)) for n in range(4)]
    scorer = Reranker(judge=Oracle({str(n): {"0": (n * 3) % 4} for n in range(4)}))

    assert [one.query for one in best_scored(examples, scorer, 2)] == ["query 1", "query 2"]
    with pytest.raises(InputError, match="keep=0"):
        best_scored(examples, scorer, 0)


def test_a_judge_that_cannot_write_is_refused() -> None:
    class Mute(Oracle):
        answers = frozenset({Grade})  # type: ignore[misc]

    with pytest.raises(InputError, match="writes no text"):
        write_queries(DOCUMENTS, Reranker(judge=Mute({})))


@pytest.mark.parametrize("name", ["inpars", "inpars-gbq"])
def test_inparss_prompts_show_a_document_and_no_query(name: str) -> None:
    prompt = prompts.find(name)

    assert (prompt.shows, prompt.asks, prompt.stop) == (1, "write", ("\n",))
    [(role, parts)] = prompt.render(1)
    assert role == "plain"
    assert [part.name for part in parts if isinstance(part, Blank)] == ["document 1"]


def test_a_real_model_writes_queries(smollm: Path) -> None:
    options = {"new_tokens": 8}

    with Reranker(smollm, judge="writer", prompt="inpars", algorithm=writing, options=options) as writer:
        [example] = write_queries(DOCUMENTS[:1], writer, least_words=1, copied=True)

    assert example.documents == ("Birds fly over the river",)
    assert "\n" not in example.query
    assert "Example" not in example.query
