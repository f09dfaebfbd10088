"""Keys and values that outlive a call: beginnings of prompts, found again by what they say."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from rerank.engine.decoders.kv_pool import KeyValues, Run

__all__ = ["Kept", "digests"]


def digests(segments: Iterable[Sequence[int]]) -> list[bytes]:
    """For each segment a hash of everything up to its end: of the tokens, and of where segments end."""
    found = []
    before = bytes(16)
    for segment in segments:
        before = blake2b(before + array("q", segment).tobytes(), digest_size=16).digest()
        found.append(before)
    return found


@dataclass(slots=True, eq=False)
class _Entry:
    runs: tuple[Run, ...]
    tokens: int
    users: int = 0


class Kept:
    """Segments whose keys and values stay in the pool, until others need the room: the longest unused goes first.

    A segment is known by the hash of its whole path, so that it is found behind the same tokens only, cut the same way.

    Args:
        pool: where they lie.
        limit: tokens that are kept at most; what is in use is never given up.

    Attributes:
        tokens: that are kept now.
    """

    def __init__(self, pool: KeyValues, limit: int) -> None:
        self._pool = pool
        self._limit = limit
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._entries)

    def found(self, path: Sequence[bytes]) -> int:
        """How many of a path's segments are there, from its beginning."""
        return next((index for index, key in enumerate(path) if key not in self._entries), len(path))

    def runs(self, key: bytes) -> tuple[Run, ...]:
        """Where a segment that is there lies."""
        return self._entries[key].runs

    def hold(self, path: Sequence[bytes]) -> None:
        """Use segments that are there: they stay until they are let go."""
        for key in reversed(path):  # a beginning is used whenever its end is, so it is always the newer one
            self._entries[key].users += 1
            self._entries.move_to_end(key)

    def let_go(self, path: Sequence[bytes]) -> None:
        """End a use."""
        for key in path:
            self._entries[key].users -= 1

    def add(self, key: bytes, runs: Sequence[Run]) -> bool:
        """Take over a segment's slots; False when it is there already, and the slots remain the caller's."""
        if key in self._entries:
            return False
        tokens = sum(length for _, length in runs)
        self._entries[key] = _Entry(tuple(runs), tokens)
        self.tokens += tokens
        return True

    def shrink(self) -> None:
        """Give up what is beyond the limit, the longest unused first."""
        for key in list(self._entries):
            if self.tokens <= self._limit:
                return
            if not self._entries[key].users:
                self._drop(key)

    def clear(self) -> None:
        """Give up everything that is not in use."""
        for key in [key for key, entry in self._entries.items() if not entry.users]:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        self.tokens -= entry.tokens
        for start, length in entry.runs:
            self._pool.free(start, length)
