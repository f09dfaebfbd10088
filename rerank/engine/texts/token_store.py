"""Token ids kept from call to call: in memory, or in a folder (`disk_tokens.py`).

Documents come back with every query that finds them, and small models take no longer than their tokenizer. What is
kept are the ids of single texts, without special tokens, under a hash of the text.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rerank.errors import InputError

__all__ = ["Ids", "MemoryTokens", "TokenStore"]

Ids = NDArray[np.int32]

ENTRY = 64  # tokens that an entry's own bookkeeping weighs: key, array header and place in a dictionary, 256 bytes
BYTES = 4  # of a token


class TokenStore(Protocol):
    """Where ids are kept. Keys are 16 bytes; one store serves one tokenizer, any number of threads."""

    def recall(self, keys: Sequence[bytes]) -> list[Ids | None]:
        """The ids of each key, None where there are none."""

    def keep(self, texts: Mapping[bytes, Ids]) -> None:
        """Remember ids by their keys."""

    @property
    def place(self) -> str:
        """Where they are kept, for the ledger."""


class MemoryTokens:
    """Ids in memory; what has not been asked for the longest is forgotten first.

    They are kept as bytes, which take less room than arrays. A server that kept arrays, and more of them, had 200 MB
    of free heap after 20,000 requests that it could not give back; which of the two it was, was not taken apart.

    Args:
        max_tokens: the most tokens that are kept, 4 bytes each; every text counts 64 more for its bookkeeping. May be
            changed later, and holds from the next text on.

    Raises:
        InputError: when there is room for nothing.
    """

    def __init__(self, max_tokens: int = 16_777_216) -> None:
        if max_tokens <= ENTRY:
            raise InputError(f"a token store of max_tokens={max_tokens} keeps nothing; choose more than {ENTRY}")
        self.max_tokens = max_tokens
        self.tokens = 0
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def recall(self, keys: Sequence[bytes]) -> list[Ids | None]:
        """The ids of each key, None where there are none."""
        with self._lock:
            for key in keys:
                if key in self._kept:
                    self._kept.move_to_end(key)
            return [_ids(self._kept.get(key)) for key in keys]

    def keep(self, texts: Mapping[bytes, Ids]) -> None:
        """Remember ids by their keys; a text that fills the store alone is not kept."""
        with self._lock:
            for key, ids in texts.items():
                if key not in self._kept and len(ids) + ENTRY <= self.max_tokens:
                    self._kept[key] = ids.tobytes()
                    self.tokens += len(ids) + ENTRY
            while self.tokens > self.max_tokens:
                _, oldest = self._kept.popitem(last=False)
                self.tokens -= len(oldest) // BYTES + ENTRY

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def place(self) -> str:
        """Where they are kept, for the ledger."""
        return f"memory, at most {self.max_tokens:,} tokens"


def _ids(kept: bytes | None) -> Ids | None:
    """A view that cannot be written to, as of a folder's."""
    return None if kept is None else np.frombuffer(kept, np.int32)
