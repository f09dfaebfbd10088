"""Who may come in: a bounded queue, of which no client fills more than its share."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Hashable

from rerank.serve.asked import Refused

__all__ = ["Admission"]

MEMORY = 0.9
"""Of the mean seconds a document, what the next request leaves of those before."""

LONGEST_WAIT = 60
"""Seconds that a client is told to wait at most."""


class Admission:
    """Counts the requests and documents of one model that wait or are at work. One event loop uses it.

    Args:
        requests, documents: the most at once.
        share: of both, that one client may have.
    """

    def __init__(self, requests: int, documents: int, share: float) -> None:
        self._requests, self._documents, self._share = requests, documents, share
        self.open_requests = self.open_documents = 0
        self._of: Counter[tuple[Hashable, str]] = Counter()
        self._seconds = 0.05
        self._finished = time.monotonic()

    def enter(self, client: Hashable, documents: int) -> None:
        """Let a request in.

        Raises:
            Refused: 429, with the seconds after which there should be room.
        """
        if self.open_requests >= self._requests or (
            self.open_requests and self.open_documents + documents > self._documents
        ):
            raise Refused(
                429,
                f"the model is busy: {self.open_requests} requests with {self.open_documents} documents are in front",
                retry_after=self.wait,
            )
        mine, theirs = self._of[client, "requests"], self._of[client, "documents"]
        if mine and (mine >= self._share * self._requests or theirs + documents > self._share * self._documents):
            raise Refused(429, f"{mine} of your requests are being worked on; wait for some", retry_after=self.wait)
        self._count(client, 1, documents)

    def leave(self, client: Hashable, documents: int, *, answered: bool) -> None:
        """A request is done.

        Args:
            client, documents: as at `enter`.
            answered: its documents were read, and tell how long one takes.
        """
        now = time.monotonic()
        if answered:
            took = min(now - self._finished, LONGEST_WAIT) / documents
            self._seconds = MEMORY * self._seconds + (1 - MEMORY) * took
        self._finished = now
        self._count(client, -1, -documents)

    @property
    def wait(self) -> int:
        """Seconds until about half of what is in front is done."""
        return min(LONGEST_WAIT, max(1, math.ceil(self.open_documents * self._seconds / 2)))

    def _count(self, client: Hashable, requests: int, documents: int) -> None:
        self.open_requests += requests
        self.open_documents += documents
        for name, change in (("requests", requests), ("documents", documents)):
            self._of[client, name] += change
            if not self._of[client, name]:
                del self._of[client, name]
