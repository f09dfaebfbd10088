"""The ledger: what ranking cost, per query and in total.

Amounts are plain sums under the names in `UNITS`; notes are choices that were made (device, attention, budgets).
Peak memory is not a sum and is read from the process when it is asked for.
"""

from __future__ import annotations

import resource
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["UNITS", "Ledger", "peak_memory_bytes"]

UNITS: Mapping[str, str] = {
    "questions": "asked by algorithms",
    "memory_hits": "questions answered from memory",
    "journal_hits": "questions answered from the journal",
    "rounds": "dependent rounds of questions",
    "calls": "model forward passes",
    "tokens_real": "tokens of the texts and templates that were computed",
    "tokens_padded": "filler tokens that were computed for nothing",
    "tokens_reused": "tokens whose keys and values were not computed again",
    "tokens_generated": "tokens that a model wrote",
    "tokens_recalled": "tokens of documents that were kept from an earlier call and not tokenised again",
    "borders_merged": "borders between pieces of prompts that had to be tokenised across",
    "truncated_documents": "documents that did not fit and were cut at the end",
    "truncated_tokens": "tokens that were cut off",
    "repairs": "answers that had to be repaired",
    "flops": "floating-point operations of the executed plan",
    "seconds": "of work inside the judge",
}
"""Every amount that may be charged, and what it counts."""


class Ledger:
    """Keeps the bill. Any thread may charge it.

    A forward pass that serves several queries is charged to each of them by its share of real tokens, so that the
    queries' accounts add up to the total.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queries: dict[str, Counter[str]] = {}
        self._total: Counter[str] = Counter()
        self._notes: dict[str, str] = {}

    def charge(self, query_id: str, **amounts: float) -> None:
        """Add amounts to one query's account and to the total."""
        for name in amounts:
            if name not in UNITS:
                raise KeyError(f"no amount is called {name!r}; there is {', '.join(UNITS)}")
        with self._lock:
            self._queries.setdefault(query_id, Counter()).update(amounts)
            self._total.update(amounts)

    def note(self, name: str, value: str) -> None:
        """Record a choice that was made."""
        with self._lock:
            self._notes[name] = value

    @property
    def total(self) -> dict[str, float]:
        """Everything charged so far, in the order of `UNITS`."""
        with self._lock:
            return {name: self._total[name] for name in UNITS if name in self._total}

    @property
    def queries(self) -> dict[str, dict[str, float]]:
        """Each query's account."""
        with self._lock:
            return {
                query_id: {name: account[name] for name in UNITS if name in account}
                for query_id, account in self._queries.items()
            }

    @property
    def notes(self) -> dict[str, str]:
        """The choices that were made."""
        with self._lock:
            return dict(self._notes)

    @property
    def padding(self) -> float:
        """The share of computed tokens that was filler, from 0 to 1."""
        real, padded = self._total["tokens_real"], self._total["tokens_padded"]
        return padded / (real + padded) if real + padded else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Total, notes and peak memory, for `--json` and reports."""
        return {
            **self.total,
            "padding": self.padding,
            "peak_memory_bytes": peak_memory_bytes(),
            "notes": self.notes,
        }


def peak_memory_bytes() -> int:
    """The most memory this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
