"""A budget for each query: documents are asked about from the top until it is spent, the rest stays below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rerank.cost import Ledger
from rerank.errors import InputError
from rerank.questions import Grade, Graded, Plan
from rerank.types import Ranking

__all__ = ["Budget", "within"]

GROWTH = 3
"""A round asks about at most so many times the documents asked about before: what they cost says what more will."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one query may cost, as the ledger charges it.

    Args:
        pflop: 10¹⁵ floating-point operations.
        seconds: of the judge's work; of a batch of several queries, the query's share.

    A judge that charges nothing of what is limited is asked about one document after the other, and never runs out.

    Raises:
        InputError: when neither is said, or one is not above 0.
    """

    pflop: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [limit for limit in (self.pflop, self.seconds) if limit is not None]
        if not given or not all(math.isfinite(limit) and limit > 0 for limit in given):
            raise InputError(f"a budget of {self.pflop} PFLOP and {self.seconds} seconds; say one of them, above 0")

    def spent(self, account: Mapping[str, float], before: Mapping[str, float]) -> float:
        """The share of the budget that is spent: 1 when it is all gone."""
        limits = {"flops": 1e15 * (self.pflop or math.inf), "seconds": self.seconds or math.inf}
        return max((account.get(name, 0) - before.get(name, 0)) / limit for name, limit in limits.items())


def within(budget: Budget, ranking: Ranking, ledger: Ledger) -> Plan:
    """Grade documents from the top of the ranking while the budget lasts.

    The first round asks about one document, and each further one about as many as half of what is left should pay for
    (a document is expected to cost by its length what those of the last round did), so that an estimate that is wrong
    does not overspend by much. What answers from memory or the journal costs nothing.

    Args:
        budget: of this query.
        ranking: the candidates; the best-placed are asked about first.
        ledger: where the judge charges its work; documents that the budget leaves out are counted there.
    """
    query = ranking.query
    before = ledger.account(query.query_id)
    documents = ranking.documents
    lengths = [len(query.text) + len(document.full_text) + 1 for document in documents]
    scores: list[float] = []
    spent, rate, count = 0.0, 0.0, 1
    while count:
        asked = slice(len(scores), len(scores) + count)
        answers = yield [Grade(query, document) for document in documents[asked]]
        scores += [answer.score for answer in answers if isinstance(answer, Graded)]
        now = budget.spent(ledger.account(query.query_id), before)
        rate, spent = (now - spent) / sum(lengths[asked]) or rate, now
        count = _affordable(lengths[asked.stop : asked.stop + GROWTH * len(scores)], rate, 1 - spent)
    if len(scores) < len(documents):
        ledger.charge(query.query_id, over_budget=len(documents) - len(scores))
    return Ranking.by_score(query, documents[: len(scores)], scores).then(documents[len(scores) :])


def _affordable(lengths: Sequence[int], rate: float, left: float) -> int:
    """How many of these may be asked about together: what half of the rest pays for, but one if the whole rest does.

    One, while nothing has been charged yet and nobody knows what a document costs.
    """
    if not rate:
        return min(1, len(lengths))
    count, cost = 0, 0.0
    for length in lengths:
        cost += rate * length
        if left <= 0 or cost > (left / 2 if count else left):
            break
        count += 1
    return count
