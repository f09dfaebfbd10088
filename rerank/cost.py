"""The ledger: what ranking cost, per query and in total.

Amounts are plain sums under the names in `UNITS`; notes are choices that were made (device, attention, budgets).
What answers from a journal had cost when they were given stands beside that, for it was paid before.
How long each query took from its submission to its ranking is no sum, for queries overlap, and neither is peak memory,
which is read from the process when it is asked for.
"""

from __future__ import annotations

import resource
import statistics
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["UNITS", "Ledger", "peak_cuda_bytes", "peak_memory_bytes"]

UNITS: Mapping[str, str] = {
    "questions": "asked by algorithms",
    "memory_hits": "questions answered from memory",
    "journal_hits": "questions answered from the journal",
    "rounds": "dependent rounds of questions",
    "calls": "model forward passes, or requests to a server",
    "tokens_real": "tokens of the texts and templates that were computed",
    "tokens_padded": "filler tokens that were computed for nothing",
    "tokens_reused": "tokens whose keys and values, or vectors, were not computed again",
    "tokens_generated": "tokens that a model wrote",
    "tokens_recalled": "tokens of texts that were kept from an earlier call and not tokenised again",
    "borders_merged": "borders between pieces of prompts that had to be tokenised across",
    "special_tokens_defused": "special tokens that texts spelt out, read as text",
    "identifiers_renamed": "brackets in texts that looked like identifiers of a list, shown as parentheses",
    "truncated_documents": "documents that did not fit and were cut at the end",
    "truncated_queries": "queries that were longer than a model reads, and cut at the end",
    "truncated_tokens": "tokens that were cut off",
    "windows": "windows of long documents that were asked about",
    "windows_left_out": "windows of long documents that nobody read",
    "over_budget": "documents that were not asked about because a query's budget was spent",
    "repairs": "answers that had to be repaired",
    "words_untold": "words of answers that were not among the likeliest tokens a server told",
    "retries": "questions asked once more after a failure that passed",
    "flops": "floating-point operations of the executed plan",
    "flops_estimated": "the same by the closed form of https://arxiv.org/abs/2507.06223",
    "seconds": "of work inside the judge",
    "searches": "searches that a server of rerankers bills",
    "price": "money that a server takes for its tokens or searches, in the currency of the prices given",
}
"""Every amount that may be charged, and what it counts."""


class Ledger:
    """Keeps the bill. Any thread may charge it.

    A forward pass that serves several queries is charged to each of them by its share of real tokens, so that the
    queries' accounts add up to the total.

    Args:
        accounts: how many queries' accounts are kept, for servers that never end; the oldest go first, and stay part
            of the total. All by default.
    """

    def __init__(self, *, accounts: int | None = None) -> None:
        self._lock = threading.Lock()
        self._most = accounts
        self._queries: dict[str, Counter[str]] = {}
        self._total: Counter[str] = Counter()
        self._recalled: dict[str, Counter[str]] = {}
        self._notes: dict[str, str] = {}
        self._waits: dict[str, tuple[float, int]] = {}  # query_id -> (seconds, rankings)

    def charge(self, query_id: str, **amounts: float) -> None:
        """Add amounts to one query's account and to the total."""
        _check(amounts)
        with self._lock:
            self._queries.setdefault(query_id, Counter()).update(amounts)
            self._total.update(amounts)
            self._forget(self._queries)

    def recall(self, query_id: str, **amounts: float) -> None:
        """Note what an answer had cost that a journal gave now: kept by itself, and in no sum of what was charged.

        Args:
            query_id: whose.
            amounts: by the names in `UNITS`; `questions` counts the answers.
        """
        _check(amounts)
        with self._lock:
            self._recalled.setdefault(query_id, Counter()).update(amounts)

    def note(self, name: str, value: str) -> None:
        """Record a choice that was made."""
        with self._lock:
            self._notes[name] = value

    def finish(self, query_id: str, seconds: float) -> None:
        """Note that a query has its ranking.

        Args:
            query_id: whose.
            seconds: of wall time since it was submitted, waiting for others included.
        """
        with self._lock:
            before, count = self._waits.get(query_id, (0.0, 0))
            self._waits[query_id] = before + seconds, count + 1
            self._forget(self._waits)

    @property
    def wall_seconds(self) -> dict[str, float]:
        """From the submission of each query to its ranking; the mean, for a query that was ranked several times."""
        with self._lock:
            return {query_id: seconds / count for query_id, (seconds, count) in self._waits.items()}

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
    def recalled(self) -> dict[str, dict[str, float]]:
        """What each query's answers from a journal had cost, where the journal says so."""
        with self._lock:
            return {
                query_id: {name: account[name] for name in UNITS if name in account}
                for query_id, account in self._recalled.items()
            }

    def account(self, query_id: str) -> dict[str, float]:
        """One query's account as it is now; empty when nothing was charged to it."""
        with self._lock:
            return dict(self._queries.get(query_id, {}))

    def forget(self, query_id: str) -> None:
        """Let go of a query's account, which stays part of the total."""
        with self._lock:
            self._queries.pop(query_id, None)
            self._waits.pop(query_id, None)

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

    def as_dict(self, *, queries: bool = False) -> dict[str, Any]:
        """Total, notes, wall time, peak memory and what was recalled, for `--json` and reports.

        Args:
            queries: with every query's account, and its `wall_seconds`.
        """
        cuda = peak_cuda_bytes()
        recalled = self.recalled
        paid = sum((Counter(account) for account in recalled.values()), Counter())
        return {
            **self.total,
            "padding": self.padding,
            **_spread(self.wall_seconds),
            "peak_memory_bytes": peak_memory_bytes(),
            **({} if cuda is None else {"peak_cuda_bytes": cuda}),
            **({"recalled": {name: paid[name] for name in UNITS if name in paid}} if recalled else {}),
            "notes": self.notes,
            **({"queries": self._accounts()} if queries else {}),
            **({"recalled_queries": recalled} if queries and recalled else {}),
        }

    def _forget(self, accounts: dict[str, Any]) -> None:
        """Let go of the oldest."""
        while self._most is not None and len(accounts) > self._most:
            del accounts[next(iter(accounts))]

    def _accounts(self) -> dict[str, dict[str, float]]:
        waits = self.wall_seconds
        accounts = self.queries
        for query_id, seconds in waits.items():
            accounts[query_id] = {**accounts.get(query_id, {}), "wall_seconds": seconds}
        return accounts


def _check(amounts: Mapping[str, float]) -> None:
    for name in amounts:
        if name not in UNITS:
            raise KeyError(f"no amount is called {name!r}; there is {', '.join(UNITS)}")


def peak_memory_bytes() -> int:
    """The most memory this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_cuda_bytes() -> int | None:
    """The most that tensors have held at once on each CUDA device, summed over devices; None when none was used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return sum(int(torch.cuda.max_memory_allocated(device)) for device in range(torch.cuda.device_count()))


def _spread(seconds: Mapping[str, float]) -> dict[str, Any]:
    """How long queries took: the mean, the median, what 95 % of them do not exceed, and the longest."""
    if not seconds:
        return {}
    ordered = sorted(seconds.values())
    return {
        "wall_seconds": {
            "mean": statistics.fmean(ordered),
            "median": statistics.median(ordered),
            "p95": ordered[-(-len(ordered) * 95 // 100) - 1],
            "longest": ordered[-1],
        }
    }
