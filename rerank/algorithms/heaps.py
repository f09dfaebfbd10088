"""A heap whose order is asked for: the best few of a list, with as many questions side by side as there can be.

Nodes are numbered from 0; the children of node i of a heap with c children each are c·i + 1 … c·i + c. Floyd's build
goes from the last node that has a child to the root. The subtrees of a level share no node, so a level sifts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from typing import TypeAlias, TypeVar

from rerank.questions import Answer, Question
from rerank.types import Document

__all__ = ["Sift", "Steps", "alongside", "best_few", "children_of", "together"]

T = TypeVar("T")

Asking: TypeAlias = Generator[list[Question], list[Answer], T]
"""A part of a plan: asks, and comes to a result."""

Steps: TypeAlias = Asking[None]
"""The same where the result is what it has changed of what it was given."""

Sift: TypeAlias = Callable[[list[Document], int], Steps]
"""(heap, node) -> the steps that put the node's document where it belongs below it."""


def best_few(
    documents: Sequence[Document], head: int, *, children: int, sift: Sift
) -> Generator[list[Question], list[Answer], list[Document]]:
    """The first `head` of the documents, best first: a build, then head − 1 sifts from the root.

    Args:
        documents: at least `head` of them.
        head: how many are wanted.
        children: of each node.
        sift: lets a document sink to its place.
    """
    heap = list(documents)
    for level in _levels(len(heap), children):
        yield from together(sift(heap, node) for node in reversed(level))
    best = heap[:1]
    while len(best) < head:
        heap[0] = heap[-1]
        heap.pop()
        yield from sift(heap, 0)
        best.append(heap[0])
    return best


def children_of(node: int, children: int, size: int) -> range:
    """The children of a node in a heap of `size` nodes."""
    return range(children * node + 1, min(children * node + children + 1, size))


def together(parts: Iterable[Steps]) -> Steps:
    """Run parts of a plan that do not touch each other side by side: a round asks whatever each of them asks next."""
    yield from alongside(parts)


def alongside(
    parts: Iterable[Generator[list[Question], list[Answer], T]],
) -> Generator[list[Question], list[Answer], list[T]]:
    """The same for parts that each come to a result: their results, in the order given."""
    results: dict[int, T] = {}
    going: list[tuple[int, Asking[T], list[Answer] | None]]
    going = [(index, part, None) for index, part in enumerate(parts)]
    while going:
        asking = []
        for index, part, answers in going:
            try:
                asking.append((index, part, next(part) if answers is None else part.send(answers)))
            except StopIteration as end:
                results[index] = end.value
        if not asking:
            break
        given = iter((yield [question for _, _, questions in asking for question in questions]))
        going = [(index, part, list(islice(given, len(questions)))) for index, part, questions in asking]
    return [results[index] for index in sorted(results)]


def _levels(size: int, children: int) -> list[range]:
    """The nodes that have a child, level by level, the deepest first."""
    inner = len(range(0, size - 1, children))
    levels = []
    start, width = 0, 1
    while start < inner:
        levels.append(range(start, min(start + width, inner)))
        start, width = start + width, width * children
    return levels[::-1]
