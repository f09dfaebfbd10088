"""Lists that can be nothing but valid: which tokens may come next when each identifier is written once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from rerank.errors import InputError

__all__ = ["Spelling"]


class Spelling:
    """Identifiers as tokens, and the ways to go on with a list of them.

    Args:
        first: the tokens of each identifier at the beginning of a list.
        later: the same further on, with what stands in front.
        end: the token behind a complete list.

    Raises:
        InputError: when one identifier's tokens begin another's, so that nobody could tell where it ends.
    """

    def __init__(self, first: Sequence[Sequence[int]], later: Sequence[Sequence[int]], end: int) -> None:
        self.end = end
        self._ways = [[tuple(ids) for ids in first], [tuple(ids) for ids in later]]
        for way in self._ways:
            if clash := next(((a, b) for a, b in permutations(way, 2) if b[: len(a)] == a), None):
                raise InputError(
                    f"tokens {clash[0]} of one identifier begin {clash[1]} of another; leave out constrained"
                )

    def next(self, written: Sequence[int]) -> list[int]:
        """The tokens that may follow those written so far."""
        left = set(range(len(self._ways[0])))
        rest = tuple(written)
        while left:
            way = self._ways[len(left) < len(self._ways[0])]
            done = next((index for index in left if rest and rest[: len(way[index])] == way[index]), None)
            if done is None:
                return sorted({way[index][len(rest)] for index in left if way[index][: len(rest)] == rest})
            left.remove(done)
            rest = rest[len(way[done]) :]
        return [self.end]
