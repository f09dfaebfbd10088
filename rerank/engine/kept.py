"""What was made of texts, kept from call to call under a hash of the text: vectors, states, weights."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from rerank.errors import InputError

__all__ = ["Kept", "KeptTensors", "content_hash"]

ENTRY = 512  # bytes that an entry's own bookkeeping weighs


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What was made of a text.

    Args:
        tensor: what is kept.
        tokens: that were computed for it, special tokens included.
        cut: tokens of the text that did not fit.
    """

    tensor: Tensor
    tokens: int
    cut: int = 0


class KeptTensors:
    """Tensors in memory; what has not been asked for the longest is forgotten first. Any number of threads.

    Args:
        megabytes: the most that is kept, in MiB; 0 keeps nothing.

    Raises:
        InputError: when it is negative.
    """

    def __init__(self, megabytes: int = 1024) -> None:
        if megabytes < 0:
            raise InputError(f"kept_megabytes={megabytes}; give 0 to keep nothing, or more")
        self.most = megabytes * 2**20
        self.bytes = 0
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def recall(self, keys: Sequence[bytes]) -> list[Kept | None]:
        """What there is for each key, None where there is none."""
        with self._lock:
            for key in keys:
                if key in self._kept:
                    self._kept.move_to_end(key)
            return [self._kept.get(key) for key in keys]

    def keep(self, made: Mapping[bytes, Kept]) -> None:
        """Remember them by their keys; one that is larger than all the room there is is not kept."""
        with self._lock:
            for key, each in made.items():
                size = _size(each)
                if key not in self._kept and size <= self.most:
                    # a part of a batch would keep all of the batch alive
                    self._kept[key] = Kept(each.tensor.clone(), each.tokens, each.cut)
                    self.bytes += size
            while self.bytes > self.most:
                _, oldest = self._kept.popitem(last=False)
                self.bytes -= _size(oldest)

    def __len__(self) -> int:
        return len(self._kept)


def content_hash(*parts: str) -> bytes:
    """A hash of texts that tells ("ab", "c") from ("a", "bc")."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.digest()


def _size(kept: Kept) -> int:
    return kept.tensor.numel() * kept.tensor.element_size() + ENTRY
