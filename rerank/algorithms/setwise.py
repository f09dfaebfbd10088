"""The best of a few at a time: setwise prompting (Zhuang et al., 2023, https://arxiv.org/abs/2310.09497).

A question shows a parent and its children, the parent first. Children are labelled by letters in the prompts, so that
there may be 25 of them.
"""

from __future__ import annotations

from rerank.algorithms.answers import best
from rerank.algorithms.heads import check_head, head_then_rest
from rerank.algorithms.heaps import Steps, best_few, children_of
from rerank.algorithms.windows import wavefront, windows
from rerank.errors import InputError
from rerank.questions import Algorithm, Pick, Plan
from rerank.types import Document, Query, Ranking

__all__ = ["setwise_heapsort", "setwise_sliding"]


def _setwise_heapsort(ranking: Ranking, *, head: int = 10, children: int = 2) -> Plan:
    """Find the best `head` with a heap whose nodes have several children, and leave the others below.

    One question finds the best of a node and its children. The build asks the subtrees of a level side by side; after
    it the documents leave the heap one after the other. Documents that tie may change places.

    Args:
        head: how many positions are put in order.
        children: alternatives beside the parent, from 1 to 25; a question shows children + 1 documents.

    Raises:
        InputError: when the head holds nothing, or there are too few or too many children.
    """
    _check(head, children)
    few = min(head, len(ranking))
    placed = yield from best_few(
        ranking.documents, few, children=children, sift=lambda heap, node: _sift(ranking.query, heap, node, children)
    )
    return head_then_rest(ranking, placed)


def _sift(query: Query, heap: list[Document], node: int, children: int) -> Steps:
    while below := children_of(node, children, len(heap)):
        family = [node, *below]
        question = Pick(query, tuple(heap[member] for member in family))
        [answer] = yield [question]
        largest = family[best(question, answer)]
        if largest == node:
            return
        heap[node], heap[largest] = heap[largest], heap[node]
        node = largest


def _setwise_sliding(ranking: Ranking, *, head: int = 10, children: int = 2) -> Plan:
    """Let the best rise from the tail, `children` places at a time, once for each position of the head.

    The best of children + 1 neighbours goes to their front and the others keep their order, so that ties keep the
    incoming one. Pass p ends below the p documents already placed and asks ⌈(n − p − 1) / children⌉ questions; it
    follows the pass before it as closely as it can, and no pass is left out when nothing moved.

    Args:
        head: how many positions are put in order.
        children: alternatives beside the parent, from 1 to 25; a question shows children + 1 documents.

    Raises:
        InputError: when the head holds nothing, or there are too few or too many children.
    """
    _check(head, children)
    order, few = list(ranking.documents), min(head, len(ranking))
    passes = [windows(len(order), window=children + 1, step=children, first=place) for place in range(few)]
    for parts in wavefront(passes):
        questions = [Pick(ranking.query, tuple(order[part])) for part in parts]
        answers = yield [*questions]
        for part, question, answer in zip(parts, questions, answers, strict=True):
            order.insert(part.start, order.pop(part.start + best(question, answer)))
    return head_then_rest(ranking, order[:few])


def _check(head: int, children: int) -> None:
    check_head(head)
    if not 1 <= children <= 25:
        raise InputError(f"children={children}; a question has from 1 to 25, as many as there are letters beside the A")


def _exact(count: int, *, head: int = 10, children: int = 2) -> int:
    return min(head, count)


setwise_heapsort = Algorithm("setwise-heapsort", _setwise_heapsort, asks=frozenset({Pick}), exact=_exact)
setwise_sliding = Algorithm("setwise-sliding", _setwise_sliding, asks=frozenset({Pick}), exact=_exact)
