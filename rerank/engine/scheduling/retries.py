"""Questions that failed in passing: how long each waits before it is asked again, and how often."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from dataclasses import dataclass

from rerank.cost import Ledger
from rerank.engine.scheduling.tasks import Entry
from rerank.errors import InputError, JudgeError, Transient

__all__ = ["Retries", "Retry"]


@dataclass(frozen=True, slots=True)
class Retry:
    """How a question is asked again after a `Transient` error.

    The n-th wait is between half of first · 2ⁿ⁻¹ seconds and all of it, no longer than `longest`, and begins when the
    time is over that the judge asked for. The part that is drawn depends on the seed and the question alone.

    Args:
        tries: how often a question is asked at most, the first time included.
        first: seconds, of the first wait.
        longest: seconds, of any wait.
        patience: seconds; a judge that asks to wait longer is not asked again.
        seed: of what is drawn.

    Raises:
        InputError: when there is no try, or a time is negative.
    """

    tries: int = 6
    first: float = 0.5
    longest: float = 30.0
    patience: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tries < 1 or not all(seconds >= 0 for seconds in (self.first, self.longest, self.patience)):
            raise InputError(f"{self} cannot be; ask at least once, and wait 0 seconds or more")

    def wait(self, key: str, tries: int) -> float:
        """Seconds before a question that was asked `tries` times is asked again."""
        whole = min(self.longest, self.first * 2.0 ** min(tries - 1, 64))
        return whole * random.Random(f"{self.seed} {key} {tries}").uniform(0.5, 1.0)


class Retries:
    """Questions that wait to be asked again, and the pause that the judge asked for.

    Args:
        retry: how long they wait.
        ledger: where they are counted.
    """

    def __init__(self, retry: Retry, ledger: Ledger) -> None:
        self._retry, self._ledger = retry, ledger
        self._waiting: list[tuple[float, int, Entry]] = []
        self._numbers = itertools.count()  # so that no two are equal, and entries are never compared
        self._paused_until = 0.0

    @property
    def paused(self) -> bool:
        """Whether the judge asked to be left alone for now."""
        return time.monotonic() < self._paused_until

    @property
    def next_due(self) -> float | None:
        """When something can be asked that cannot be asked now, by the monotonic clock."""
        if self.paused:
            return self._paused_until
        return self._waiting[0][0] if self._waiting else None

    def add(self, entry: Entry, error: Transient) -> JudgeError | None:
        """Let a question wait, or say why it will not be asked again."""
        asked = error.retry_after or 0.0
        if entry.tries >= self._retry.tries:
            return JudgeError(f"{error}; it was asked {entry.tries} times")
        if not asked <= self._retry.patience:
            return JudgeError(f"{error}; to wait {asked:g} s is longer than the {self._retry.patience:g} s of patience")
        now = time.monotonic()
        self._paused_until = max(self._paused_until, now + asked)
        due = now + asked + self._retry.wait(entry.key, entry.tries)
        heapq.heappush(self._waiting, (due, next(self._numbers), entry))
        self._ledger.charge(entry.question.query.query_id, retries=1)
        return None

    def due(self, count: int) -> list[Entry]:
        """At most `count` questions whose time has come."""
        now = time.monotonic()
        entries: list[Entry] = []
        while self._waiting and len(entries) < count and self._waiting[0][0] <= now:
            entries.append(heapq.heappop(self._waiting)[2])
        return entries

    def clear(self) -> None:
        """Forget them all."""
        self._waiting.clear()
