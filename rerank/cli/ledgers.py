"""Ledgers on the command line: which belongs to which run, and what the runs give for what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rerank.errors import InputError

if TYPE_CHECKING:
    from rerank.efficiency import Efficiency
    from rerank.evaluate import Evaluation
    from rerank.io.ledgers import Accounts

__all__ = ["efficiency_of"]


def efficiency_of(
    found: Mapping[str, Evaluation], systems: Mapping[Path, str], ledgers: Sequence[Path]
) -> dict[str, Sequence[Efficiency]]:
    """What the runs that have a ledger give for what they cost.

    Args:
        found: name -> evaluation.
        systems: path of each run -> its name.
        ledgers: files that `rerank rerank --ledger` wrote, each of which says which run it paid for.

    Raises:
        FileError: when one cannot be read.
        InputError: when a ledger belongs to none of the runs, two belong to one, or one does not fit its run.
    """
    from rerank.efficiency import efficiencies
    from rerank.io import read_ledger

    efficiency: dict[str, Sequence[Efficiency]] = {}
    for path in ledgers:
        accounts = read_ledger(path)
        name = systems[_run_of(accounts, list(systems))]
        if name in efficiency:
            raise InputError(f"the ledger {path} belongs to the run {name}, and so does one before it; leave one out")
        try:
            efficiency[name] = efficiencies(found[name], accounts.whole)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return efficiency


def _run_of(accounts: Accounts, runs: Sequence[Path]) -> Path:
    """The run that was paid for: of the same path or, when it was moved, the only one of the same name."""
    output = Path(accounts.output or "")
    for same in (
        [run for run in runs if run.resolve() == output.resolve()],
        [run for run in runs if run.name == output.name],
    ):
        if len(same) == 1:
            return same[0]
    said = f"paid for {accounts.output!r}" if accounts.output else "names no run"
    raise InputError(f"the ledger {accounts.path} {said}; give that run with --run")
