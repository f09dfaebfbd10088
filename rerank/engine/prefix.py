"""What prompts have in common: paths of segments become a trie, in which every shared piece is computed once.

For causal models, whose keys and values depend on nothing that follows: reuse is exact where all tokens in front are
the same. Pure functions of segments; lengths are in tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Generic, Protocol, TypeVar

from rerank.errors import InputError

__all__ = ["Node", "Segment", "Trie"]


class Segment(Hashable, Sized, Protocol):
    """A piece of a prompt: a tuple of token ids, or anything that stands for one. Equal means the same tokens."""


S = TypeVar("S", bound=Segment)


@dataclass(frozen=True, slots=True)
class Node(Generic[S]):
    """Segments that follow each other in every prompt that holds them; computed once for all of these.

    Args:
        parent: index of the node that this one continues; None at the start of a prompt.
        segments: its pieces, in order; none of them is empty.
        start: tokens in front of it, and so the position of its first token.
        length: its own tokens.
        level: nodes in front of it.
        requests: indices of the requests whose prompt ends here; several when prompts are the same.
        kept: its keys and values are there from earlier and need not be computed.
    """

    parent: int | None
    segments: tuple[S, ...]
    start: int
    length: int
    level: int
    requests: tuple[int, ...]
    kept: bool


class Trie(Generic[S]):
    """What a batch of prompts shares.

    Segments are shared whole or not at all: prompts that cut the same tokens at different places share nothing there.

    Args:
        requests: the prompts, each as its segments in order. Empty segments change nothing.
        kept: prompts, or beginnings of prompts, whose keys and values are there already.

    Raises:
        InputError: when a request has no tokens.

    `nodes` are in the order of execution: level by level, and a parent before its children; within a level in the
    order of the requests. Nodes of a level depend on none of each other.
    """

    def __init__(self, requests: Iterable[Sequence[S]], *, kept: Iterable[Sequence[S]] = ()) -> None:
        root: _Branch[S] = _Branch()
        lengths = []
        for index, segments in enumerate(requests):
            end = root.grown(segments)
            if end is root:
                raise InputError(f"request {index} has no tokens")
            end.requests.append(index)
            lengths.append(sum(map(len, segments)))
        for segments in kept:
            root.keep(segments)
        self.lengths: tuple[int, ...] = tuple(lengths)
        self.nodes: tuple[Node[S], ...] = tuple(_in_levels(root))

    @property
    def prompts(self) -> int:
        """How many prompts were requested."""
        return len(self.lengths)

    @property
    def distinct(self) -> int:
        """How many different prompts there are; the same prompt has the same answer."""
        return sum(bool(node.requests) for node in self.nodes)

    @property
    def naive(self) -> int:
        """Tokens when every prompt is computed by itself."""
        return sum(self.lengths)

    @property
    def shared(self) -> int:
        """Tokens when every node is computed once, and what is kept not at all."""
        return sum(node.length for node in self.nodes if not node.kept)

    @property
    def reused(self) -> int:
        """Tokens that are not computed again."""
        return self.naive - self.shared

    @property
    def levels(self) -> list[list[int]]:
        """The indices of the nodes, level by level: what can be computed at once."""
        by_level = groupby(range(len(self.nodes)), key=lambda index: self.nodes[index].level)
        return [list(indices) for _, indices in by_level]

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """For each request the index of the node in which its prompt ends."""
        found = {request: index for index, node in enumerate(self.nodes) for request in node.requests}
        return tuple(found[request] for request in range(self.prompts))

    def ancestors(self, index: int) -> list[int]:
        """The nodes that a node attends to beside itself, from the start of the prompt."""
        above = []
        parent = self.nodes[index].parent
        while parent is not None:
            above.append(parent)
            parent = self.nodes[parent].parent
        return above[::-1]


@dataclass(slots=True, eq=False)
class _Branch(Generic[S]):
    """A place in the trie while it grows: what continues it, and which requests end there."""

    children: dict[S, _Branch[S]] = field(default_factory=dict)
    requests: list[int] = field(default_factory=list)
    kept: bool = False

    def grown(self, segments: Sequence[S]) -> _Branch[S]:
        """Where a path ends, after it was made."""
        branch = self
        for segment in filter(len, segments):
            branch = branch.children.setdefault(segment, _Branch())
        return branch

    def keep(self, segments: Sequence[S]) -> None:
        """Mark what is there of a path."""
        branch = self
        for segment in filter(len, segments):
            if (following := branch.children.get(segment)) is None:
                return
            branch = following
            branch.kept = True

    def chain(self, segment: S) -> tuple[tuple[S, ...], _Branch[S]]:
        """A child with everything behind it up to where prompts part, end, or stop being kept."""
        segments, branch = [segment], self.children[segment]
        while len(branch.children) == 1 and not branch.requests:
            [(segment, following)] = branch.children.items()
            if following.kept != branch.kept:
                break
            segments.append(segment)
            branch = following
        return tuple(segments), branch


def _in_levels(root: _Branch[S]) -> list[Node[S]]:
    nodes: list[Node[S]] = []
    level: list[tuple[int | None, _Branch[S]]] = [(None, root)]
    depth = 0
    while level:
        following: list[tuple[int | None, _Branch[S]]] = []
        for parent, branch in level:
            start = 0 if parent is None else nodes[parent].start + nodes[parent].length
            for first in branch.children:
                segments, end = branch.chain(first)
                following.append((len(nodes), end))
                length = sum(map(len, segments))
                nodes.append(Node(parent, segments, start, length, depth, tuple(end.requests), end.kept))
        level = following
        depth += 1
    return nodes
