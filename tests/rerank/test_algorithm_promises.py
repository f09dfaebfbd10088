"""What every registered algorithm promises, whatever it asks and whoever answers.

A new algorithm is tested by its line in `registry.TABLES`; it adds what its questions and rounds are to `DOCUMENTED` or
`AT_MOST`, the options it has to `OPTIONS`, and where it guarantees no position, what it reaches to `FLOORS`.

Those that follow a graph of the corpus may bring in documents that are not in the list, and promise no position of it.
Here their graph holds the documents of the list alone, so that everything else that is promised of an order holds of
them too; `test_adaptive.py` tests what they bring in.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank import registry
from rerank.algorithms.adaptive import Adjacency
from rerank.algorithms.aggregate import AGGREGATES
from rerank.algorithms.blocks import AGGREGATES as OF_BLOCKS
from rerank.engine.scheduler import Scheduler
from rerank.errors import InputError
from rerank.evaluate import evaluate
from rerank.judges.fake import Oracle
from rerank.questions import (
    Algorithm,
    Announce,
    Compare,
    Compared,
    Grade,
    Graded,
    GradedSet,
    GradeSet,
    Heard,
    Permute,
    Permuted,
    Pick,
    Picked,
    Write,
    Written,
)
from rerank.rerankers.reranker import Reranker
from rerank.types import Ranking

NAMES = registry.names("algorithm")
SIZES = [0, 1, 2, 19, 20, 21, 25, 30]
LARGE = [95, 100]
TOO_MANY = {"all-pairs"}
"""Algorithms that ask more than 20,000 questions about 1,000 documents."""

ADAPTIVE = ("gar", "ladr", "ladr-adaptive")
"""These follow a graph."""

FLOORS = {"bert-qe": 0.99, "blocks": 0.85, "tournament-points": 0.85, "budgeted-pairs": 0.33, "triage": 0.04}
FLOORS |= dict.fromkeys(ADAPTIVE, 1.0)
"""The least nDCG@10 of a perfect judge, at any size, of algorithms that guarantee no position. Those with a budget
leave much as it came, and the worst of these lists come in reverse."""

TRUE_RANK = {
    "in order": lambda index, count: index,
    "reversed": lambda index, count: count - 1 - index,
    "mixed": lambda index, count: 37 * index % count,
}


@st.composite
def windows(draw):
    window = draw(st.integers(2, 24))
    return {"window": window, "step": draw(st.integers(1, window)), "passes": draw(st.integers(1, 4))}


SEEDS = st.integers(0, 9)
PAIRS = st.fixed_dictionaries({"head": st.integers(1, 50), "calibrated": st.booleans()})
SETS = st.fixed_dictionaries(
    {
        "head": st.integers(1, 50),
        "children": st.integers(1, 25),
        "votes": st.integers(1, 3),
        "shuffle": st.booleans(),
        "seed": SEEDS,
    }
)
WALK = {"seeds": st.integers(0, 40), "neighbours": st.integers(0, 3), "budget": st.integers(0, 60)}
BUDGETS = st.fixed_dictionaries({"words": st.integers(1, 3000), "questions": st.integers(0, 200)})
OPTIONS = {
    "all-pairs": st.fixed_dictionaries(
        {"aggregate": st.sampled_from(sorted(AGGREGATES)), "share": st.sampled_from([0.02, 0.5, 1.0]), "seed": SEEDS}
    ),
    "bert-qe": st.fixed_dictionaries(
        {
            "depth": st.integers(1, 12),
            "chunk_words": st.integers(1, 12),
            "chunks": st.integers(1, 12),
            "alpha": st.sampled_from([0.0, 0.4, 1.0]),
        }
    ),
    "blocks": st.fixed_dictionaries(
        {
            "design": st.sampled_from(["equi-replicate", "latin", "triangular", "random"]),
            "block": st.integers(2, 24),
            "replication": st.integers(1, 4),
            "aggregate": st.sampled_from(sorted(OF_BLOCKS)),
            "seed": SEEDS,
        }
    ),
    "budgeted-pairs": BUDGETS,
    "gar": st.fixed_dictionaries(
        {"budget": st.integers(1, 60), "batch": st.integers(1, 20), "neighbours": st.integers(0, 3)}
    ),
    "ladr": st.fixed_dictionaries(WALK),
    "ladr-adaptive": st.fixed_dictionaries({**WALK, "depth": st.integers(1, 30)}),
    "group-scores": st.fixed_dictionaries(
        {"group": st.integers(0, 24), "epochs": st.integers(1, 3), "shuffle": st.booleans(), "seed": SEEDS}
    ),
    "heapsort": PAIRS,
    "mergesort": st.fixed_dictionaries({"beam": st.integers(1, 4), "gap": st.floats(0, 0.5)}),
    "quicksort": PAIRS,
    "setwise-heapsort": SETS,
    "setwise-sliding": SETS,
    "sliding-k": PAIRS,
    "sliding-windows": windows(),
    "top-down": st.integers(3, 24).flatmap(
        lambda window: st.fixed_dictionaries({"window": st.just(window), "pivot": st.integers(2, window - 1)})
    ),
    "triage": BUDGETS,
    "tournament": st.integers(2, 8).flatmap(
        lambda group: st.fixed_dictionaries(
            {"head": st.integers(1, 50), "group": st.just(group), "winners": st.integers(1, group - 1)}
        )
    ),
    "tournament-points": st.fixed_dictionaries({"tournaments": st.integers(1, 4), "seed": SEEDS}),
}

DOCUMENTED = {
    "answer-scent": lambda n: (n + 1, 2),
    "all-pairs": lambda n: (n * (n - 1), 1),
    "bert-qe": lambda n: (n + 10 + 10 * n, 3),
    "blocks": lambda n: (4 * ceil(n / 20), 1),
    "exclusion": lambda n: (n - 1, n - 1),
    "ladr": lambda n: (n, 1),
    "ladr-adaptive": lambda n: (n, 1),
    "full-list": lambda n: (1, 1),
    "group-scores": lambda n: (ceil(n / 20), 1),
    "pointwise": lambda n: (n, 1),
    "setwise-sliding": lambda n: (sum(ceil((n - p - 1) / 2) for p in range(10)), ceil((n - 10) / 2) + 18),
    "triage": lambda n: (min(n, 2000 // 23), 1),
    "sliding-k": lambda n: (2 * (10 * (n - 1) - 45), n + 8),
    "sliding-windows": lambda n: (1 + ceil(max(n - 20, 0) / 10), 1 + ceil(max(n - 20, 0) / 10)),
}
"""For 19 documents and more, and default options: (questions, rounds), whatever the answers."""

AT_MOST = {
    "gar": lambda n: (n, 2 + ceil(n / 8)),
    "budgeted-pairs": lambda n: (6000 // 38, n - 1 + 2 * ceil(6000 // 38 / (n - 1))),
    "top-down": lambda n: (3 + max(n - 20, 0) // 11 * (2 + n // 19), 3 + 2 * (max(n - 20, 0) // 11)),
    "tournament": lambda n: (ceil(n / 5) * 2 + 10 * levels(n) * 3, 10 * levels(n)),
    "tournament-points": lambda n: (10 * (ceil(n / 20) + 8), 5),
    "mergesort": lambda n: (2 * n * (depth(n - 1) + 1), 4 * n),
    "quicksort": lambda n: (n * (n - 1), n - 1),
    "heapsort": lambda n: (4 * (n - 1) + 9 * 4 * depth(n), depth(n) * (depth(n) + 1) + 9 * 2 * depth(n)),
    "setwise-heapsort": lambda n: (n - 1 + 9 * depth(n), depth(n) * (depth(n) + 1) // 2 + 9 * depth(n)),
}
"""The same where they depend on the answers; a heap of n nodes has ⌊log₂ n⌋ levels below the root."""


OF_TWO = {
    "answer-scent": (3, 2),
    "bert-qe": (8, 3),
    "budgeted-pairs": (1, 1),
    "blocks": (4, 1),
    "tournament-points": (0, 0),
}
"""What is asked about two documents, where it is not both orders of a pair, a grade for each, or one question."""


def levels(count: int) -> int:
    """Of a tournament in groups of 5 of whom 2 go on, until one is left."""
    return 0 if count <= 1 else 1 if count <= 5 else 1 + levels(2 * (count // 5) + min(2, count % 5))


def depth(count: int) -> int:
    return count.bit_length() - 1


class Strange:
    """A judge of one of the bad sorts; it says the same again when it is asked the same."""

    answers = frozenset({Grade, GradeSet, Compare, Pick, Permute, Write, Announce})
    reads_ids = True

    def __init__(self, sort: str):
        self.sort = self.key = sort

    def answer(self, questions, bill):
        for index, question in enumerate(questions):
            yield index, self._answer(question, len(question.documents))

    def _answer(self, question, count: int):
        order = sorted(range(count), key=lambda index: self._whim(question, index))
        match question:
            case Grade():
                return Graded(float(order[0]))
            case GradeSet():
                return GradedSet(tuple(map(float, order)))
            case Compare():
                return Compared({"always A": 1.0, "always B": 0.0, "unreadable": None}.get(self.sort, float(order[0])))
            case Pick():
                return Picked(tuple(order[: question.count]))
            case Permute():
                return Permuted(tuple((index,) for index in order))
            case Write():
                return Written("" if self.sort == "unreadable" else "an answer")
            case Announce():
                return Heard()
        raise AssertionError(question)

    def _whim(self, question, index: int) -> object:
        if self.sort == "whims":
            shown = " ".join(document.doc_id for document in question.documents)
            return hashlib.sha256(f"{shown} {index}".encode()).digest()
        return -index if self.sort == "always B" else index


STRANGE = ["always A", "always B", "unreadable", "whims"]


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


def graph_of(ranking: Ranking) -> Adjacency:
    """Two neighbours of each document, out of the list."""
    count = len(ranking)
    near = {
        document.doc_id: [ranking[place % count].document.doc_id for place in (index + 1, 3 * index + 7)]
        for index, document in enumerate(ranking.documents)
    }
    return Adjacency(ranking.documents, near)


def registered(name: str) -> Algorithm:
    """The algorithm of a name; where it follows a graph, with one of the list that it is given."""
    algorithm = registry.load("algorithm", name)
    if name not in ADAPTIVE:
        return algorithm
    return replace(
        algorithm, plan=lambda ranking, **options: algorithm.plan(ranking, **{"graph": graph_of(ranking), **options})
    )


@pytest.fixture
def algorithm(name):
    return registered(name)


def run(algorithm, rankings, judge, **options):
    with Scheduler(judge) as scheduler:
        return scheduler.run([algorithm(ranking, **options) for ranking in rankings]), scheduler.ledger


def relevance_of(ranking: Ranking, qrels) -> list[int]:
    return [qrels[ranking.query.query_id].get(document.doc_id, 0) for document in ranking.documents]


def by_id(ranking: Ranking) -> list:
    return sorted(ranking.documents, key=lambda document: document.doc_id)


def test_an_algorithm_is_called_as_it_is_registered(name, algorithm):
    assert algorithm.name == name
    assert algorithm.asks


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25)
@given(data=st.data())
def test_a_perfect_judge_gets_what_is_promised_whatever_the_options(listed, name, data):
    algorithm = registered(name)
    options = data.draw(OPTIONS.get(name, st.just({})))
    relevances = data.draw(st.lists(st.integers(0, data.draw(st.sampled_from([1, 3, 1000]))), max_size=45))
    qrels = {"query": {str(index): relevance for index, relevance in enumerate(relevances)}}

    [ranking], _ = run(algorithm, [listed(len(relevances))], Oracle(qrels), **options)

    exact = algorithm.exact(len(relevances), **options)
    assert 0 <= exact <= len(relevances)
    assert relevance_of(ranking, qrels)[:exact] == sorted(relevances, reverse=True)[:exact]


@pytest.mark.parametrize("order", list(TRUE_RANK))
def test_a_perfect_judge_gets_what_is_promised_at_every_size(listed, name, algorithm, order):
    sizes = [*SIZES, *LARGE, *([] if name in TOO_MANY else [1000])] if order == "mixed" else SIZES
    qrels = {f"q{n}": {str(index): n - TRUE_RANK[order](index, n) for index in range(n)} for n in sizes}

    rankings, _ = run(algorithm, [listed(n, f"q{n}") for n in sizes], Oracle(qrels))

    for n, ranking in zip(sizes, rankings, strict=True):
        exact = algorithm.exact(n)
        assert relevance_of(ranking, qrels)[:exact] == list(range(n, n - exact, -1))
        assert by_id(ranking) == by_id(listed(n, f"q{n}"))


@pytest.mark.parametrize("order", list(TRUE_RANK))
def test_what_guarantees_no_position_keeps_its_floor(listed, name, algorithm, order):
    if algorithm.exact(100) > 0:
        assert name not in FLOORS
        return
    sizes = [*SIZES[2:], *LARGE]
    qrels = {f"q{n}": {str(index): n - TRUE_RANK[order](index, n) for index in range(n)} for n in sizes}

    rankings, _ = run(algorithm, [listed(n, f"q{n}") for n in sizes], Oracle(qrels))

    reached = evaluate(qrels, {ranking.query.query_id: ranking for ranking in rankings}).values("nDCG@10")
    assert min(reached.values()) >= FLOORS[name], reached


def test_elo_over_all_pairs_keeps_its_floor(listed):
    """Ratings of a perfect judge's games are no order: what they reach is stated instead."""
    qrels = {f"q{n}": {str(index): n - TRUE_RANK["mixed"](index, n) for index in range(n)} for n in (2, 20, 30, 50)}
    elo = registry.load("algorithm", "all-pairs")

    rankings, _ = run(elo, [listed(int(q[1:]), q) for q in qrels], Oracle(qrels), aggregate="elo")

    reached = evaluate(qrels, {ranking.query.query_id: ranking for ranking in rankings}).values("nDCG@10")
    assert min(reached.values()) >= 0.95, reached


@pytest.mark.parametrize("sort", STRANGE)
def test_no_document_is_lost_or_doubled_whatever_a_judge_says(listed, name, algorithm, sort):
    given = [listed(n, f"q{n}") for n in (*SIZES, *LARGE)]

    rankings, _ = run(algorithm, given, Strange(sort))

    assert [ranking.query for ranking in rankings] == [ranking.query for ranking in given]
    assert [by_id(ranking) for ranking in rankings] == [by_id(ranking) for ranking in given]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(data=st.data(), count=st.integers(0, 30), seed=st.integers(0, 1000))
def test_no_document_is_lost_or_doubled_by_a_noisy_judge_whatever_the_options(listed, name, data, count, seed):
    options = data.draw(OPTIONS.get(name, st.just({})))
    judge = Oracle({"query": {str(index): index % 4 for index in range(count)}}, noise=1.0, seed=seed)

    [ranking], _ = run(registered(name), [listed(count)], judge, **options)

    assert by_id(ranking) == by_id(listed(count))


@pytest.mark.parametrize("count", [19, 20, 21, 25, 30, 95, 100])
@pytest.mark.parametrize("sort", ["whims", "reversed"])
def test_questions_and_rounds_are_as_documented(listed, play, name, algorithm, sort, count):
    oracle = Oracle({"query": {str(index): index for index in range(count)}})

    _, rounds = play(algorithm(listed(count)), oracle if sort == "reversed" else Strange(sort))

    asked = (sum(map(len, rounds)), len(rounds))
    if name in DOCUMENTED:
        assert asked == DOCUMENTED[name](count)
    else:
        assert all(had <= most for had, most in zip(asked, AT_MOST[name](count), strict=True))
    assert {type(question) for questions in rounds for question in questions} == algorithm.asks


def test_two_documents_take_both_orders_a_grade_each_or_one_question(listed, play, name, algorithm):
    _, rounds = play(algorithm(listed(2)), Oracle({"query": {"1": 1}}))

    usual = (2, 1) if algorithm.asks <= {Compare, Grade} else (1, 1)
    assert (sum(map(len, rounds)), len(rounds)) == OF_TWO.get(name, usual)


@pytest.mark.parametrize("count", [0, 1])
def test_there_is_nothing_to_ask_about_one_document_but_its_grade(listed, play, name, algorithm, count):
    _, rounds = play(algorithm(listed(count)), Strange("whims"))

    asked = {"pointwise": count, "group-scores": count, "answer-scent": 2 * count} | dict.fromkeys(ADAPTIVE, count)
    assert sum(map(len, rounds)) == asked.get(name, 0)


def test_the_ledger_has_the_questions_and_rounds_of_every_query(listed, play, algorithm):
    judge = Strange("whims")

    _, ledger = run(algorithm, [listed(count, f"q{count}") for count in (5, 21, 40)], judge)

    for count in (5, 21, 40):
        _, rounds = play(algorithm(listed(count, f"q{count}")), judge)
        account = ledger.queries[f"q{count}"]
        assert (account["questions"], account["rounds"]) == (sum(map(len, rounds)), len(rounds))


def test_a_query_among_fifty_is_ranked_as_it_is_alone(listed, algorithm):
    rankings = [listed(12, f"q{number}") for number in range(50)]
    qrels = {f"q{number}": {str(index): (index * number) % 5 for index in range(12)} for number in range(50)}
    judge = Oracle(qrels, noise=1.0)

    together, ledger = run(algorithm, rankings, judge)

    for number in (0, 7, 49):
        [alone], own = run(algorithm, [rankings[number]], judge)
        assert together[number] == alone
        assert ledger.queries[f"q{number}"] == own.queries[f"q{number}"]


def test_a_judge_that_only_grades_is_refused_in_one_line(name, algorithm):
    judge = Oracle({})
    judge.answers = frozenset({Grade})

    if algorithm.asks == {Grade}:
        options = {"graph": Adjacency([], {})} if name in ADAPTIVE else {}
        assert Reranker(judge=judge, algorithm=name, options=options).algorithm is registry.load("algorithm", name)
    else:
        asks = ", ".join(kind.__name__ for kind in algorithm.asks - {Grade})
        with pytest.raises(InputError, match=f"^{name} asks {asks}, and Oracle answers only Grade; choose another"):
            Reranker(judge=judge, algorithm=name)
