"""What a request to a server is charged as: its tokens as the server counts them, and money."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rerank.errors import InputError
from rerank.judges.hosting.replies import Reply, Usage
from rerank.judges.hosting.telling import Told
from rerank.questions import Bill, Question

__all__ = ["Prices", "charge"]

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Money for a million tokens, in any one currency.

    Args:
        input, output: of tokens read and written.
        cached: of tokens read that the server had kept; as other tokens read when None.

    Raises:
        InputError: when one is negative.
    """

    input: float = 0.0
    output: float = 0.0
    cached: float | None = None

    def __post_init__(self) -> None:
        given = [self.input, self.output, self.cached or 0.0]
        if not all(math.isfinite(price) and price >= 0 for price in given):
            raise InputError(f"a million tokens cannot cost {', '.join(f'{price:g}' for price in given)}; 0 or more")

    @property
    def known(self) -> bool:
        """Whether anything costs something."""
        return bool(self.input or self.output or self.cached)

    @property
    def choices(self) -> dict[str, str]:
        """For the ledger."""
        if not self.known:
            return {"price of a million tokens": "not given"}
        cached = "" if self.cached is None else f", {self.cached:g} cached"
        return {"price of a million tokens": f"{self.input:g} read{cached}, {self.output:g} written"}

    def of(self, usage: Usage) -> float:
        """Of one request."""
        cached = self.input if self.cached is None else self.cached
        read = (usage.prompt - usage.cached) * self.input + usage.cached * cached
        return (read + usage.written * self.output) / MILLION


def charge(bill: Bill, question: Question, got: Reply, told: Told, prices: Prices, seconds: float) -> None:
    """Charge a request to the query that it was made for.

    Args:
        bill: of the scheduler.
        question: that was asked.
        got, told: the reply, and what was cut for it.
        prices: of tokens.
        seconds: that the server took.
    """
    amounts: dict[str, float] = {"calls": 1, "seconds": seconds, **told.amounts}
    if got.usage is None:
        bill.note("usage", "the server does not tell its tokens: neither they nor their price are counted")
    else:
        usage = got.usage
        amounts |= {"tokens_real": usage.prompt - usage.cached, "tokens_generated": usage.written}
        amounts |= {"tokens_reused": usage.cached} if usage.cached else {}
        amounts |= {"price": prices.of(usage)} if prices.known else {}
    if got.model:
        bill.note("answered by", f"{got.model} {got.fingerprint}".strip())
    bill.charge(question.query.query_id, **amounts)
