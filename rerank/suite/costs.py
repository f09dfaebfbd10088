"""What a system cost on a dataset, added up from the ledgers of its stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rerank.io import read_ledger

__all__ = ["Cost", "cost_of"]


@dataclass(frozen=True)
class Cost:
    """The bill of all rerankers of a pipeline; first stages keep none.

    Args:
        accounts: query_id -> amount -> how much, by the names in `rerank.cost.UNITS`; `wall_seconds` beside them.
        files: where that was read.
    """

    accounts: Mapping[str, Mapping[str, float]]
    files: tuple[Path, ...] = ()

    @property
    def total(self) -> Mapping[str, float]:
        """Every amount over all queries."""
        return sum((Counter(account) for account in self.accounts.values()), Counter())

    @property
    def recalled(self) -> int:
        """Answers that came from a journal, whose cost nobody knows any more."""
        return int(self.total.get("journal_hits", 0))

    def a_query(self, *names: str) -> float | None:
        """The mean over queries of these amounts together; None where nothing was charged, or part is unknown."""
        if not self.accounts or self.recalled:
            return None
        return sum(self.total.get(name, 0.0) for name in names) / len(self.accounts)

    def waited(self, share: float) -> float | None:
        """Seconds within which this share of the queries had its ranking, waiting for others included."""
        ordered = sorted(account["wall_seconds"] for account in self.accounts.values() if "wall_seconds" in account)
        return ordered[max(0, -(-len(ordered) * round(100 * share) // 100) - 1)] if ordered else None


def cost_of(ledgers: Sequence[Path]) -> Cost:
    """The ledgers' accounts, added query by query.

    Raises:
        FileError: when one cannot be read.
    """
    accounts: dict[str, Counter[str]] = {}
    for path in ledgers:
        for query_id, account in read_ledger(path).queries.items():
            accounts.setdefault(query_id, Counter()).update(account)
    return Cost(accounts, tuple(ledgers))
