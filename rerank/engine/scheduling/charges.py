"""What each answer cost: the bill that a judge is given, which passes everything on and remembers whose it was."""

from __future__ import annotations

import threading
from collections import Counter, deque

from rerank.cost import Ledger

__all__ = ["Charges"]

CLOSES = "seconds"
"""The amount that a judge charges once for each question: what was charged up to it belongs to one answer."""


class Charges:
    """A `rerank.questions.Bill` over a ledger. Any thread may charge it.

    Judges charge queries, in the order in which they then give their answers; so what an answer cost is what was
    charged to its query since the answer before. What a query's answers cost adds up to what the judge charged it.

    Args:
        ledger: where everything is charged.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._open: dict[str, deque[dict[str, float]]] = {}

    def charge(self, query_id: str, **amounts: float) -> None:
        """Charge the ledger, and remember it for the query's next answer."""
        self._ledger.charge(query_id, **amounts)
        with self._lock:
            self._open.setdefault(query_id, deque()).append(amounts)

    def note(self, name: str, value: str) -> None:
        """Record a choice that was made."""
        self._ledger.note(name, value)

    def take(self, query_id: str, *, last: bool) -> dict[str, float]:
        """What the query's next answer cost.

        Args:
            query_id: whose.
            last: whether the judge has no further question of the query: the answer then pays for all that is left.
        """
        cost: Counter[str] = Counter()
        with self._lock:
            charged = self._open.pop(query_id, deque())
            while charged and (last or CLOSES not in cost):
                cost.update(charged.popleft())
            if charged:
                self._open[query_id] = charged
        return dict(cost)
