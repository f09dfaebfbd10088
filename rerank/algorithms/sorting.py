"""Two documents at a time: pairwise ranking prompting (Qin et al., 2023, https://arxiv.org/abs/2306.17563).

Every pair is asked in both orders, in one round, and one document beats the other only where the two answers agree.
"""

from __future__ import annotations

from itertools import islice

from rerank.algorithms.answers import beats, both_orders
from rerank.algorithms.heads import check_head, head_of, head_then_rest
from rerank.algorithms.heaps import Steps, best_few, children_of
from rerank.algorithms.windows import wavefront, windows
from rerank.questions import Algorithm, Compare, Plan
from rerank.types import Document, Query, Ranking

__all__ = ["heapsort", "sliding_k"]


def _heapsort(ranking: Ranking, *, head: int = 10, calibrated: bool = False) -> Plan:
    """Find the best `head` with a binary heap and leave the others below in their old order.

    A document sinks below a child only where both orders say that the child is better. The build asks the subtrees of
    a level side by side; after it the documents leave the heap one after the other. At most 4 (n − 1) questions
    for the build and 4 ⌊log₂ n⌋ for each further document. Documents that tie may change places.

    Args:
        head: how many positions are put in order.
        calibrated: decide by the more probable of both orders, instead of by their agreement.

    Raises:
        InputError: when the head holds nothing.
    """
    check_head(head)
    few = min(head, len(ranking))
    best = yield from best_few(
        ranking.documents, few, children=2, sift=lambda heap, node: _sift(ranking.query, heap, node, calibrated)
    )
    return head_then_rest(ranking, best)


def _sift(query: Query, heap: list[Document], node: int, calibrated: bool) -> Steps:
    """Let a document sink: left child against it, then right child against the better of the two."""
    while True:
        largest = node
        for child in children_of(node, 2, len(heap)):
            there, back = yield [*both_orders(query, heap[child], heap[largest])]
            if beats(there, back, calibrated=calibrated):
                largest = child
        if largest == node:
            return
        heap[node], heap[largest] = heap[largest], heap[node]
        node = largest


def _sliding_k(ranking: Ranking, *, head: int = 10, calibrated: bool = False) -> Plan:
    """Let the best rise from the tail, neighbour by neighbour, once for each position of the head.

    A document passes the one above it only where both orders say that it is better, so that ties keep the incoming
    order. Pass p ends below the p documents already placed and follows the pass before it two places behind, which
    makes n + head − 2 rounds of at most `head` pairs for a head below n. No pass is left out when nothing moved: it is
    2 · (head · (n − 1) − head · (head − 1) / 2) questions in all, of which those that repeat come from memory.

    Args:
        head: how many positions are put in order.
        calibrated: decide by the more probable of both orders, instead of by their agreement.

    Raises:
        InputError: when the head holds nothing.
    """
    check_head(head)
    order, few = list(ranking.documents), min(head, len(ranking))
    for parts in wavefront([windows(len(order), window=2, step=1, first=place) for place in range(few)]):
        questions = [question for part in parts for question in both_orders(ranking.query, *reversed(order[part]))]
        answers = iter((yield [*questions]))
        for part in parts:
            if beats(*islice(answers, 2), calibrated=calibrated):
                order[part] = order[part][::-1]
    return head_then_rest(ranking, order[:few])


_PAIRS = frozenset({Compare})

heapsort = Algorithm("heapsort", _heapsort, asks=_PAIRS, exact=head_of)
sliding_k = Algorithm("sliding-k", _sliding_k, asks=_PAIRS, exact=head_of)
