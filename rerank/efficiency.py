"""Quality for computation: RPP, a ranking measure per PetaFLOP, and QPP, queries per PetaFLOP.

Peng et al., 2025, "Efficiency-Effectiveness Reranking FLOPs for LLM-based Rerankers", https://arxiv.org/abs/2507.06223.
FLOPs, unlike seconds, do not depend on the machine; what the ledger calls `flops` are those that were executed, and
`flops_estimated` those of the paper's closed form, which knows of no sharing, padding or skipping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rerank.errors import InputError
from rerank.evaluate import Evaluation

__all__ = ["AMOUNTS", "Efficiency", "efficiencies", "efficiency"]

AMOUNTS = ("flops", "flops_estimated")
"""What may be divided by, as the ledger names it."""

PETA = 1e15


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What a run gives for what it costs.

    Args:
        amount: "flops" or "flops_estimated".
        queries: how many were averaged over.
        flops: the mean over them.
        qpp: queries per PetaFLOP, 10¹⁵ / `flops`.
        rpp: measure -> the mean over queries of value / PetaFLOPs of that query.
        without_cost: judged queries that cost nothing, for instance because they had one candidate; left out, because
            nothing can be divided by them.
    """

    amount: str
    queries: int
    flops: float
    qpp: float
    rpp: Mapping[str, float]
    without_cost: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        return asdict(self)


def efficiency(
    evaluation: Evaluation, accounts: Mapping[str, Mapping[str, float]], amount: str = "flops"
) -> Efficiency:
    """RPP and QPP of a run, over the judged queries that it has.

    Args:
        evaluation: of the run.
        accounts: query_id -> amounts, as `Ledger.queries` or `read_ledger(…).queries` give them.
        amount: one of `AMOUNTS`.

    Raises:
        InputError: when a query of the run is not in the ledger, an answer came from a journal, so that its cost is in
            an older ledger, or no query has any of the amount.
    """
    if amount not in AMOUNTS:
        raise InputError(f"amount is {amount!r}; it is one of {', '.join(AMOUNTS)}")
    present = [query_id for query_id in evaluation.query_ids if query_id not in set(evaluation.missing)]
    costs = {query_id: _cost(query_id, accounts, amount) for query_id in present}
    charged = {query_id: cost for query_id, cost in costs.items() if cost}
    if not charged:
        raise InputError(f"the ledger has no {amount} for any of the {len(present)} queries of the run")
    mean = math.fsum(charged.values()) / len(charged)
    return Efficiency(
        amount=amount,
        queries=len(charged),
        flops=mean,
        qpp=PETA / mean,
        rpp={measure: _rpp(evaluation.values(measure), charged) for measure in evaluation.measures},
        without_cost=tuple(query_id for query_id in costs if query_id not in charged),
    )


def efficiencies(evaluation: Evaluation, accounts: Mapping[str, Mapping[str, float]]) -> Sequence[Efficiency]:
    """The same by what was executed and, where the judge knew its model's shape, by the estimate.

    Raises:
        InputError: as `efficiency` does.
    """
    known = [amount for amount in AMOUNTS if any(account.get(amount) for account in accounts.values())]
    return [efficiency(evaluation, accounts, amount) for amount in known or AMOUNTS[:1]]


def _cost(query_id: str, accounts: Mapping[str, Mapping[str, float]], amount: str) -> float:
    if query_id not in accounts:
        raise InputError(f"query {query_id!r} is not in the ledger; is it the ledger of another run?")
    account = accounts[query_id]
    if hits := account.get("journal_hits"):
        raise InputError(
            f"{int(hits)} answers about query {query_id!r} came from a journal, and their cost is not in this ledger; "
            "rerank with --no-journal to measure it"
        )
    return account.get(amount, 0.0)


def _rpp(values: Mapping[str, float], costs: Mapping[str, float]) -> float:
    return math.fsum(values[query_id] / (cost / PETA) for query_id, cost in costs.items()) / len(costs)
