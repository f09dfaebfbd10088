"""What a system cost on a dataset, added up from the ledgers of its stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rerank.io import read_ledger

__all__ = ["Cost", "cost_of"]


@dataclass(frozen=True)
class Cost:
    """The bill of all rerankers of a pipeline; first stages keep none.

    Args:
        accounts: query_id -> amount -> how much, by the names in `rerank.cost.UNITS`; `wall_seconds` beside them. What
            answers from a journal had cost when they were given is counted in.
        files: where that was read.
        recalled: what was counted in for answers from a journal; `questions` is their number.
    """

    accounts: Mapping[str, Mapping[str, float]]
    files: tuple[Path, ...] = ()
    recalled: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> Mapping[str, float]:
        """Every amount over all queries."""
        return sum((Counter(account) for account in self.accounts.values()), Counter())

    @property
    def unknown(self) -> int:
        """Answers that came from a journal which does not say what they had cost."""
        return int(self.total.get("journal_hits", 0))

    @property
    def from_journal(self) -> int:
        """All answers that came from a journal."""
        return self.unknown + int(self.recalled.get("questions", 0))

    def a_query(self, *names: str) -> float | None:
        """The mean over queries of these amounts together; None where nothing was charged, or part is unknown."""
        if not self.accounts or self.unknown:
            return None
        return sum(self.total.get(name, 0.0) for name in names) / len(self.accounts)

    def waited(self, share: float) -> float | None:
        """Seconds within which this share of the queries had its ranking, waiting for others included.

        None where an answer came from a journal: nobody waited for it then.
        """
        if self.from_journal:
            return None
        ordered = sorted(account["wall_seconds"] for account in self.accounts.values() if "wall_seconds" in account)
        return ordered[max(0, -(-len(ordered) * round(100 * share) // 100) - 1)] if ordered else None


def cost_of(ledgers: Sequence[Path]) -> Cost:
    """The ledgers' accounts, added query by query.

    Raises:
        FileError: when one cannot be read.
    """
    accounts: dict[str, Counter[str]] = {}
    recalled: Counter[str] = Counter()
    for path in ledgers:
        read = read_ledger(path)
        for query_id, account in read.whole.items():
            accounts.setdefault(query_id, Counter()).update(account)
        for paid in read.recalled.values():
            recalled.update(paid)
    return Cost(accounts, tuple(ledgers), recalled)
