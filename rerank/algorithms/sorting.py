"""Two documents at a time: pairwise ranking prompting (Qin et al., 2023, https://arxiv.org/abs/2306.17563).

Every pair is asked in both orders, in one round, and one document beats the other only where the two answers agree.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import combinations, islice

from rerank.algorithms.answers import beats, both_orders
from rerank.algorithms.heads import check_head, head_of, head_then_rest
from rerank.algorithms.heaps import Steps, best_few, children_of
from rerank.algorithms.windows import wavefront, windows
from rerank.questions import Algorithm, Answer, Compare, Plan, Question
from rerank.types import Document, Query, Ranking

__all__ = ["all_pairs", "heapsort", "sliding_k"]


def _all_pairs(ranking: Ranking) -> Plan:
    """Compare every document with every other; the score is the number of wins.

    A pair whose orders do not agree gives half a win to each; equal scores keep the incoming order. One round of
    n (n − 1) questions.
    """
    documents = ranking.documents
    pairs = list(combinations(range(len(documents)), 2))
    questions = [question for i, j in pairs for question in both_orders(ranking.query, documents[i], documents[j])]
    answers = iter((yield questions))
    wins = [0.0] * len(documents)
    for i, j in pairs:
        outcome = beats(*islice(answers, 2))
        wins[i] += 0.5 if outcome is None else float(outcome)
        wins[j] += 0.5 if outcome is None else float(not outcome)
    return Ranking.by_score(ranking.query, documents, wins)


def _heapsort(ranking: Ranking, *, head: int = 10) -> Plan:
    """Find the best `head` with a binary heap and leave the others below in their old order.

    A document sinks below a child only where both orders say that the child is better. The build asks the subtrees of
    a level side by side; after it the documents leave the heap one after the other. At most 4 (n − 1) questions
    for the build and 4 ⌊log₂ n⌋ for each further document. Documents that tie may change places.

    Args:
        head: how many positions are put in order.

    Raises:
        InputError: when the head holds nothing.
    """
    check_head(head)
    few = min(head, len(ranking))
    best = yield from best_few(
        ranking.documents, few, children=2, sift=lambda heap, node: _sift(ranking.query, heap, node)
    )
    return head_then_rest(ranking, best)


def _sift(query: Query, heap: list[Document], node: int) -> Steps:
    """Let a document sink: left child against it, then right child against the better of the two."""
    while True:
        largest = node
        for child in children_of(node, 2, len(heap)):
            if (yield from _is_better(query, heap[child], heap[largest])):
                largest = child
        if largest == node:
            return
        heap[node], heap[largest] = heap[largest], heap[node]
        node = largest


def _is_better(query: Query, one: Document, other: Document) -> Generator[list[Question], list[Answer], bool]:
    there, back = yield both_orders(query, one, other)
    return beats(there, back) is True


def _sliding_k(ranking: Ranking, *, head: int = 10) -> Plan:
    """Let the best rise from the tail, neighbour by neighbour, once for each position of the head.

    A document passes the one above it only where both orders say that it is better, so that ties keep the incoming
    order. Pass p ends below the p documents already placed and follows the pass before it two places behind, which
    makes n + head − 2 rounds of at most `head` pairs for a head below n. No pass is left out when nothing moved: it is
    2 · (head · (n − 1) − head · (head − 1) / 2) questions in all, of which those that repeat come from memory.

    Args:
        head: how many positions are put in order.

    Raises:
        InputError: when the head holds nothing.
    """
    check_head(head)
    order, few = list(ranking.documents), min(head, len(ranking))
    for parts in wavefront([windows(len(order), window=2, step=1, first=place) for place in range(few)]):
        questions = [question for part in parts for question in both_orders(ranking.query, *reversed(order[part]))]
        answers = iter((yield questions))
        for part in parts:
            if beats(*islice(answers, 2)):
                order[part] = order[part][::-1]
    return head_then_rest(ranking, order[:few])


_PAIRS = frozenset({Compare})

all_pairs = Algorithm("all-pairs", _all_pairs, asks=_PAIRS, exact=lambda count: count)
heapsort = Algorithm("heapsort", _heapsort, asks=_PAIRS, exact=head_of)
sliding_k = Algorithm("sliding-k", _sliding_k, asks=_PAIRS, exact=head_of)
