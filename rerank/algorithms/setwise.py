"""The best of a few at a time: setwise prompting (Zhuang et al., 2023, https://arxiv.org/abs/2310.09497).

A question shows a parent and its children, the parent first. Children are labelled by letters in the prompts, so that
there may be 25 of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rerank.algorithms.heads import check_head, head_then_rest
from rerank.algorithms.heaps import Steps, best_few, children_of
from rerank.algorithms.voting import Vote, check_votes
from rerank.algorithms.windows import wavefront, windows
from rerank.errors import InputError
from rerank.questions import Algorithm, Pick, Plan, Question
from rerank.types import Document, Ranking

__all__ = ["setwise_heapsort", "setwise_sliding"]


def _setwise_heapsort(
    ranking: Ranking, *, head: int = 10, children: int = 2, votes: int = 1, shuffle: bool = False, seed: int = 0
) -> Plan:
    """Find the best `head` with a heap whose nodes have several children, and leave the others below.

    One question finds the best of a node and its children. The build asks the subtrees of a level side by side; after
    it the documents leave the heap one after the other. Documents that tie may change places.

    Args:
        head: how many positions are put in order.
        children: alternatives beside the parent, from 1 to 25; a question shows children + 1 documents.
        votes: how often each choice is asked; the most votes win, and the parent stays where nothing can be read.
        shuffle: show the documents of a choice in a drawn order, as Rank-R1 does (https://arxiv.org/abs/2503.06034).
        seed: of the orders.

    Raises:
        InputError: when the head holds nothing, there are too few or too many children, or no votes.
    """
    _check(head, children, votes)
    few = min(head, len(ranking))

    def put(shown: Sequence[Document]) -> Vote:
        return Vote(ranking.query, shown, votes=votes, shuffle=shuffle, seed=seed)

    placed = yield from best_few(
        ranking.documents, few, children=children, sift=lambda heap, node: _sift(heap, node, children, put)
    )
    return head_then_rest(ranking, placed)


def _sift(heap: list[Document], node: int, children: int, put: Callable[[Sequence[Document]], Vote]) -> Steps:
    while below := children_of(node, children, len(heap)):
        family = [node, *below]
        vote = put([heap[member] for member in family])
        largest = family[vote.winner((yield [*vote.questions]))]
        if largest == node:
            return
        heap[node], heap[largest] = heap[largest], heap[node]
        node = largest


def _setwise_sliding(
    ranking: Ranking, *, head: int = 10, children: int = 2, votes: int = 1, shuffle: bool = False, seed: int = 0
) -> Plan:
    """Let the best rise from the tail, `children` places at a time, once for each position of the head.

    The best of children + 1 neighbours goes to their front and the others keep their order, so that ties keep the
    incoming one. Pass p ends below the p documents already placed and asks ⌈(n − p − 1) / children⌉ questions; it
    follows the pass before it as closely as it can, and no pass is left out when nothing moved.

    Args:
        head: how many positions are put in order.
        children: alternatives beside the parent, from 1 to 25; a question shows children + 1 documents.
        votes: how often each choice is asked; the most votes win, and the parent stays where nothing can be read.
        shuffle: show the documents of a choice in a drawn order, as Rank-R1 does (https://arxiv.org/abs/2503.06034).
        seed: of the orders.

    Raises:
        InputError: when the head holds nothing, there are too few or too many children, or no votes.
    """
    _check(head, children, votes)
    order, few = list(ranking.documents), min(head, len(ranking))
    passes = [windows(len(order), window=children + 1, step=children, first=place) for place in range(few)]
    for parts in wavefront(passes):
        put = [Vote(ranking.query, order[part], votes=votes, shuffle=shuffle, seed=seed) for part in parts]
        questions: list[Question] = [question for vote in put for question in vote.questions]
        answers = yield questions
        for number, (part, vote) in enumerate(zip(parts, put, strict=True)):
            winner = vote.winner(answers[number * votes : (number + 1) * votes])
            order.insert(part.start, order.pop(part.start + winner))
    return head_then_rest(ranking, order[:few])


def _check(head: int, children: int, votes: int) -> None:
    check_head(head)
    check_votes(votes)
    if not 1 <= children <= 25:
        raise InputError(f"children={children}; a question has from 1 to 25, as many as there are letters beside the A")


def _exact(count: int, *, head: int = 10, **others: object) -> int:
    return min(head, count)


setwise_heapsort = Algorithm("setwise-heapsort", _setwise_heapsort, asks=frozenset({Pick}), exact=_exact)
setwise_sliding = Algorithm("setwise-sliding", _setwise_sliding, asks=frozenset({Pick}), exact=_exact)
