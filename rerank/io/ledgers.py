"""Ledgers as files: one JSON object with the whole bill, every query's account, and the run that it paid for."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank.cost import Ledger
from rerank.errors import FileError
from rerank.io.atomic import atomic_write

__all__ = ["Accounts", "read_ledger", "write_ledger"]

HEADER = {"ledger": 1, "of": "rerank-toolkit"}
HOW = "write one with: rerank rerank … --ledger FILE"


@dataclass(frozen=True, slots=True)
class Accounts:
    """What a run's queries cost, read from a file.

    Args:
        path: the file.
        output: the run that was paid for, as it was called when it was written; None when nothing was written.
        queries: query_id -> amount -> how much, by the names in `rerank.cost.UNITS`.
        recalled: the same of answers that came from a journal: what they had cost before.
    """

    path: Path
    output: str | None
    queries: Mapping[str, Mapping[str, float]]
    recalled: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def whole(self) -> dict[str, dict[str, float]]:
        """Both together, as if nothing had come from a journal; `journal_hits` are those whose cost is not known."""
        return {
            query_id: _together(account, self.recalled.get(query_id, {})) for query_id, account in self.queries.items()
        }


def write_ledger(path: str | Path, ledger: Ledger, *, output: str | Path | None = None) -> None:
    """Write the bill with every query's account.

    Args:
        path: the file; replaced as a whole.
        ledger: the bill.
        output: the run that it paid for, by which `rerank evaluate` finds the two together.

    Raises:
        FileError: when it cannot be written.
    """
    content = {**HEADER, "output": None if output is None else str(output), **ledger.as_dict(queries=True)}
    with atomic_write(path) as file:
        json.dump(content, file, ensure_ascii=False, allow_nan=False, indent=1)
        file.write("\n")


def read_ledger(path: str | Path) -> Accounts:
    """The accounts of a ledger's file.

    Raises:
        FileError: when there is none, it is no ledger, or an amount is no finite number.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(f"there is no file {path}") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is no ledger, for it is not JSON; {HOW}") from error
    if not isinstance(content, dict) or {key: content.get(key) for key in HEADER} != HEADER:
        raise FileError(f"{path} is no ledger of this version; {HOW}")
    output, queries = content.get("output"), content.get("queries")
    if not isinstance(output, str | None) or not isinstance(queries, dict):
        raise FileError(f"{path}: output is {output!r} and queries are {type(queries).__name__}; the ledger is damaged")
    recalled = content.get("recalled_queries", {})
    if not isinstance(recalled, dict):
        raise FileError(f"{path}: what was recalled is a {type(recalled).__name__}; the ledger is damaged")
    read, known = (
        {query_id: _account(path, query_id, account) for query_id, account in found.items()}
        for found in (queries, recalled)
    )
    return Accounts(path, output, read, known)


def _together(account: Mapping[str, float], recalled: Mapping[str, float]) -> dict[str, float]:
    """`questions` are counted in the account already, recalled or not."""
    hits = account.get("journal_hits", 0) - recalled.get("questions", 0)
    whole = Counter({name: amount for name, amount in account.items() if name != "journal_hits"})
    whole.update({name: amount for name, amount in recalled.items() if name != "questions"})
    return {**whole, **({"journal_hits": hits} if hits > 0 else {})}


def _account(path: Path, query_id: str, account: Any) -> dict[str, float]:
    if not isinstance(account, dict):
        raise FileError(f"{path}: the account of query {query_id!r} is {account!r}; the ledger is damaged")
    for name, amount in account.items():
        if type(amount) not in (int, float) or not math.isfinite(amount) or amount < 0:
            raise FileError(f"{path}: {name!r} of query {query_id!r} is {amount!r}; it is a number, 0 or more")
    return account
