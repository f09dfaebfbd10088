"""What ranking 100 documents costs: prompts, tokens and rounds by closed forms and by fixtures without random numbers.

I = 60 tokens of instruction, q = 10 of query, D = 150 of a document with its label, s = 8 of the template's end,
N = 100 documents; a prompt that asks for an identifier has 4 more for each of them. The figures are
exact, and so are the tests.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import fmean

import pytest

from rerank.algorithms.pairs import all_pairs
from rerank.algorithms.pointwise import pointwise
from rerank.algorithms.setwise import setwise_heapsort
from rerank.algorithms.sorting import heapsort, sliding_k
from rerank.algorithms.windows import sliding_windows
from rerank.engine.prefix import Trie
from rerank.engine.scheduler import Scheduler
from rerank.judges.fake import Oracle
from rerank.questions import Announce, Compare, Compared, Grade, Permute, Pick

I, Q, D, S, N = 60, 10, 150, 8, 100  # noqa: E741, as the closed forms write them
P = I + Q
IDENTIFIER = 4

TRUE_RANK = {
    "identity": lambda index: index,
    "reverse": lambda index: 99 - index,
    "stride": lambda index: 37 * index % 100,
}


@dataclass(frozen=True)
class Piece:
    """A segment of a prompt, by what stands in it."""

    text: object
    tokens: int

    def __len__(self) -> int:
        return self.tokens


INSTRUCTION, QUERY, TAIL = Piece("instruction", I), Piece("query", Q), Piece("tail", S)


def prompt(question) -> tuple[Piece, ...]:
    """How each kind of question is written down, query first; a label is part of its document's segment."""
    match question:
        case Grade() | Compare():
            return (INSTRUCTION, QUERY, *labelled(question, D), TAIL)
        case Pick():
            return (INSTRUCTION, QUERY, *labelled(question, D + IDENTIFIER), TAIL)
        case Permute():
            return (INSTRUCTION, QUERY, *labelled(question, D + IDENTIFIER), QUERY, TAIL)
    raise AssertionError(question)


def labelled(question, tokens: int) -> list[Piece]:
    return [Piece((label, document.doc_id), tokens) for label, document in enumerate(question.documents)]


def oracle(true_rank) -> Oracle:
    return Oracle({"query": {str(index): N - true_rank(index) for index in range(N)}})


@dataclass(frozen=True)
class Bill:
    prompts: int
    distinct: int
    naive: int
    shared: int
    rounds: int


@pytest.fixture
def billed(play, listed):
    """(plan of, judge) -> what the algorithm cost, counted on its own and by the scheduler: both must agree."""

    def bill(algorithm, judge, **options) -> Bill:
        _, rounds = play(algorithm(listed(N), **options), judge)
        trie = Trie([prompt(question) for questions in rounds for question in questions])
        with Scheduler(judge) as scheduler:
            scheduler.run([algorithm(listed(N), **options)])
            ledger = scheduler.ledger.total
        counted = Bill(trie.prompts, trie.distinct, trie.naive, trie.shared, len(rounds))
        assert (ledger["questions"], ledger["rounds"]) == (counted.prompts, counted.rounds)
        assert ledger.get("memory_hits", 0) == counted.prompts - counted.distinct
        assert ledger["calls"] == counted.distinct
        return counted

    return bill


def test_pointwise_with_the_query_first(billed):
    cost = billed(pointwise, oracle(TRUE_RANK["stride"]))

    assert cost == Bill(prompts=100, distinct=100, naive=22_800, shared=15_870, rounds=1)
    assert (cost.naive, cost.shared) == (N * (P + D + S), P + N * (D + S))


def test_pointwise_with_the_document_first():
    documents = [(INSTRUCTION, Piece(index, D)) for index in range(N)]
    prompts = [(*beginning, QUERY, TAIL) for beginning in documents]

    cold, warm = Trie(prompts), Trie(prompts, kept=documents)

    assert (cold.prompts, cold.naive) == (100, 22_800)
    assert cold.shared == I + N * (D + Q + S) == 16_860
    assert warm.shared == N * (Q + S) == 1_800


def test_all_pairs(billed):
    cost = billed(all_pairs, oracle(TRUE_RANK["stride"]))

    assert cost == Bill(prompts=9_900, distinct=9_900, naive=3_742_200, shared=1_579_270, rounds=1)
    assert (cost.prompts, cost.naive) == (N * (N - 1), N * (N - 1) * (P + 2 * D + S))
    assert cost.shared == P + N * D + N * (N - 1) * (D + S)


@pytest.mark.parametrize(
    ("order", "distinct", "shared"), [("identity", 198, 46_354), ("reverse", 1890, 313_690), ("stride", 1652, 276_086)]
)
def test_sliding_k_for_a_head_of_ten(billed, order, distinct, shared):
    cost = billed(sliding_k, oracle(TRUE_RANK[order]))

    assert cost == Bill(prompts=1_890, distinct=distinct, naive=714_420, shared=shared, rounds=108)
    assert cost.prompts == 2 * (10 * (N - 1) - 10 * 9 // 2)
    assert cost.shared == 15_070 + 158 * distinct
    assert cost.rounds == N + 10 - 2


@pytest.mark.parametrize("order", list(TRUE_RANK))
def test_sliding_k_without_memory(play, listed, order):
    _, rounds = play(sliding_k(listed(N)), oracle(TRUE_RANK[order]))
    prompts = [prompt(question) for questions in rounds for question in questions]

    apart = [(*begin, Piece((number, end), D), TAIL) for number, (*begin, end, _) in enumerate(prompts)]

    assert len(prompts) == 2 * 945
    assert Trie(apart).shared == 15_070 + 158 * 1_890 == 313_690  # first documents shared, repeated prompts not


@pytest.mark.parametrize(
    ("algorithm", "options", "expected"),
    [
        (heapsort, {}, {"prompts": (553, 15), "shared": (98_700, 2_500), "rounds": (141, 3)}),
        (sliding_k, {}, {"distinct": (1_661, 42), "shared": (277_000, 7_000), "rounds": (108, 0)}),
        (setwise_heapsort, {"children": 2}, {"prompts": (139, 4), "rounds": (70, 2)}),
        (setwise_heapsort, {"children": 9}, {"prompts": (31, 1), "rounds": (23, 1)}),
    ],
    ids=["heapsort", "sliding-k", "setwise, 2 children", "setwise, 9 children"],
)
def test_random_orders_cost_what_is_said_of_them(play, listed, algorithm, options, expected):
    generator = random.Random(3)
    costs = []
    for _ in range(20):
        ranks = generator.sample(range(N), N)
        _, rounds = play(algorithm(listed(N), **options), oracle(ranks.__getitem__))
        trie = Trie([prompt(question) for questions in rounds for question in questions])
        costs.append(Bill(trie.prompts, trie.distinct, trie.naive, trie.shared, len(rounds)))

    for name, (mean, spread) in expected.items():
        assert abs(fmean(getattr(cost, name) for cost in costs) - mean) <= spread


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("identity", Bill(406, 404, 153_468, 78_902, 116)),
        ("reverse", Bill(584, 524, 220_752, 97_862, 144)),
        ("stride", Bill(548, 530, 207_144, 98_810, 136)),
    ],
)
def test_heapsort_for_a_head_of_ten(billed, order, expected):
    cost = billed(heapsort, oracle(TRUE_RANK[order]))

    assert cost == expected
    assert (cost.naive, cost.shared) == (378 * cost.prompts, 15_070 + 158 * cost.distinct)


@pytest.mark.parametrize(
    ("children", "order", "prompts", "naive", "shared", "rounds"),
    [
        (2, "identity", 102, 54_926, 40_926, 58),
        (2, "reverse", 147, 79_072, 52_374, 72),
        (2, "stride", 138, 74_212, 51_532, 68),
        (3, "identity", 69, 47_886, 38_814, 40),
        (3, "reverse", 83, 57_602, 41_082, 44),
        (3, "stride", 79, 54_826, 42_744, 41),
        (9, "identity", 30, 48_386, 44_508, 22),
        (9, "reverse", 39, 58_790, 48_276, 31),
        (9, "stride", 31, 49_080, 44_978, 23),
        (10, "identity", 27, 47_690, 44_638, 19),
        (10, "reverse", 29, 44_304, 25_250, 21),
        (10, "stride", 28, 48_692, 43_876, 20),
    ],
)
def test_setwise_heapsort_for_a_head_of_ten(billed, children, order, prompts, naive, shared, rounds):
    cost = billed(setwise_heapsort, oracle(TRUE_RANK[order]), children=children)

    assert cost == Bill(prompts, prompts, naive, shared, rounds)


def test_windows_with_the_query_repeated_after_the_documents(billed):
    cost = billed(sliding_windows, oracle(TRUE_RANK["reverse"]))

    assert cost == Bill(prompts=9, distinct=9, naive=28_512, shared=27_952, rounds=9)
    assert cost.naive == 9 * 3_168
    assert cost.shared == cost.naive - 8 * P


@pytest.mark.parametrize("order", list(TRUE_RANK))
def test_the_critical_path_of_windows_whose_first_halves_are_computed_at_once(play, listed, order):
    _, rounds = play(sliding_windows(listed(N)), oracle(TRUE_RANK[order]))
    prompts = [prompt(question) for [question] in rounds]
    announced = [question for question in next(sliding_windows(listed(N))) if isinstance(question, Announce)]
    halves = [(INSTRUCTION, QUERY, *labelled(question, D + IDENTIFIER)) for question in announced]

    later = [Trie([whole], kept=[half]) for whole, half in zip(prompts[1:], halves, strict=True)]

    # in every window the first ten stand where the first stage left them, so that they are announced at the start
    for [question], start in zip(rounds, range(80, -1, -10), strict=True):
        assert [document.doc_id for document in question.documents[:10]] == [str(start + i) for i in range(10)]
    assert Trie(prompts[:1]).naive + sum(trie.shared for trie in later) == 3_168 + 8 * (10 * 154 + Q + S) == 15_632


def test_in_context_attention_with_two_queries_over_one_context():
    documents = [Piece(index, D + IDENTIFIER) for index in range(N)]

    trie = Trie([(INSTRUCTION, *documents, Piece(query, Q), TAIL) for query in ("query", "N/A")])

    assert (trie.prompts, trie.distinct, trie.naive) == (2, 2, 30_956)
    assert trie.shared == I + 154 * N + 2 * (Q + S) == 15_496
    assert len(trie.levels) == 2


class NeverGreater:
    """A judge that says no to every pair."""

    key, answers, reads_ids = "never greater", frozenset({Compare}), False

    def answer(self, questions, bill):
        for index, question in enumerate(questions):
            bill.charge(question.query.query_id, calls=1)
            yield index, Compared(0.0)


def test_a_heap_in_which_nothing_is_greater_takes_117_comparisons(billed):
    assert billed(heapsort, NeverGreater()).prompts == 2 * 117
