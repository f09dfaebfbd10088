"""In which order a trie of prompts is computed: pieces of segments, in passes of bounded size. Pure functions.

A segment is cut into pieces of `PIECE` tokens, and attention is computed for a piece at a time. Where pieces end
depends on the prompt's own segments alone, never on what other prompts share, on what is kept, or on the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rerank.engine.prefix import Trie

__all__ = ["PIECE", "Ids", "Mark", "Piece", "Place", "depth_first", "last_uses", "passes", "places"]

PIECE = 512
"""Tokens for which attention is computed at once."""

Ids: TypeAlias = tuple[int, ...]
"""A segment: token ids."""

Place: TypeAlias = tuple[int, int]
"""A segment in a trie: (node, which of its segments)."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is wanted of a prompt: the hidden states of the last tokens of one of its segments.

    Args:
        prompt: index of the prompt.
        segment: which of its segments, none of them empty.
        count: how many of its last tokens.
    """

    prompt: int
    segment: int
    count: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens that are computed at once.

    Args:
        place: the segment that they belong to.
        start: where they start in it.
        ids: the tokens.
    """

    place: Place
    start: int
    ids: Ids


def places(trie: Trie[Ids], prompt: int) -> list[Place]:
    """Where the segments of a prompt lie in the trie, in order; its empty ones are left out."""
    end = trie.ends[prompt]
    return [(node, index) for node in [*trie.ancestors(end), end] for index in range(len(trie.nodes[node].segments))]


def depth_first(trie: Trie[Ids]) -> Iterator[int]:
    """Nodes such that what branches from one comes right behind it: its tokens are needed for a short time only."""
    children: dict[int | None, list[int]] = {}
    for index, node in enumerate(trie.nodes):
        children.setdefault(node.parent, []).append(index)
    waiting = children.get(None, [])[::-1]
    while waiting:
        index = waiting.pop()
        yield index
        waiting.extend(children.get(index, [])[::-1])


def passes(trie: Trie[Ids], budget: int) -> list[list[Piece]]:
    """Everything that is not kept, depth first, in passes of at most `budget` tokens or one piece."""
    parts: list[list[Piece]] = []
    full = 0
    for piece in _pieces(trie):
        if not parts or full + len(piece.ids) > budget:
            parts.append([])
            full = 0
        parts[-1].append(piece)
        full += len(piece.ids)
    return parts


def last_uses(trie: Trie[Ids], parts: Sequence[Sequence[Piece]]) -> list[int]:
    """For each node the pass after which nobody reads it; −1 when no pass does."""
    uses = [-1] * len(trie.nodes)
    for number, part in enumerate(parts):
        for piece in part:
            uses[piece.place[0]] = number
    for index in reversed(range(len(uses))):  # parents stand before their children
        parent = trie.nodes[index].parent
        if parent is not None:
            uses[parent] = max(uses[parent], uses[index])
    return uses


def _pieces(trie: Trie[Ids]) -> Iterator[Piece]:
    for index in depth_first(trie):
        node = trie.nodes[index]
        for number, segment in enumerate(node.segments if not node.kept else ()):
            for start in range(0, len(segment), PIECE):
                yield Piece((index, number), start, segment[start : start + PIECE])
