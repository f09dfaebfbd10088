"""One model of a server: requests in, plans for its scheduler, answers out."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from rerank.cost import Ledger
from rerank.engine.scheduler import Scheduler
from rerank.errors import InputError
from rerank.questions import Plan
from rerank.rerankers.long_documents import Passage
from rerank.rerankers.reranker import Reranker
from rerank.serve.admission import Admission
from rerank.serve.asked import Answered, Asked, Hit, Refused
from rerank.serve.cutting import bound, count_tokens, cut, reads_instructions, text_tokens
from rerank.serve.scores import RANK_ONLY, meaning, relevances
from rerank.serve.settings import Served, Settings
from rerank.types import Candidate, Document, Query, Ranking

__all__ = ["Caller", "ServedModel"]

Gone = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Args:
        request_id: of the request.
        client: whose turns and whose share of the queue it takes.
        deadline: seconds from now.
        gone: returns when the client has hung up.
    """

    request_id: str
    client: Hashable
    deadline: float
    gone: Gone


@dataclass
class _Work:
    """What a plan leaves beside its ranking."""

    passages: dict[str, Passage] = field(default_factory=dict)


class ServedModel:
    """A reranker behind a scheduler that all clients share.

    Args:
        served: what it is called, and what it is made of.
        settings: the server's.
        reranker: already loaded; loaded from `served` by default.

    Raises:
        RerankError: when it cannot be loaded, or ranks other documents than those it is given.
    """

    def __init__(self, served: Served, settings: Settings, reranker: Reranker | None = None) -> None:
        self.served, self.settings = served, settings
        self.reranker = served.load() if reranker is None else reranker
        if self.reranker.fetches:
            raise InputError(f"model {served.title!r} brings in documents of a graph, which no request has sent")
        self.ledger = Ledger(accounts=2 * settings.queue)
        self.scheduler = Scheduler(
            self.reranker.judge, ledger=self.ledger, memory=settings.answers_kept, at_once=self._at_once, lingers=True
        )
        self.admission = Admission(settings.queue, settings.queue_documents, settings.client_share)
        self._numbers = itertools.count(1)
        self.tokens = text_tokens(self.reranker.judge)
        if self.tokens is not None:
            bound(self.tokens, settings.tokens_kept)
        self.reads_instructions = reads_instructions(self.reranker.judge)

    @property
    def name(self) -> str:
        """What requests call it."""
        return self.served.title

    @property
    def scores(self) -> str:
        """What the numbers of a response are."""
        return meaning(self.reranker)

    def warm_up(self) -> None:
        """Rank two documents, so that what is made at first use is made; models of others are not asked for that."""
        if not self.reranker.recipe.hosted:
            plan = self.plan(Asked("what is a reranker?", ("one text", "another text")), "warm-up", _Work())
            self.scheduler.submit(plan).result()

    async def answer(self, asked: Asked, caller: Caller, listen: Callable[[Plan], Plan] | None = None) -> Answered:
        """Rank a request's documents.

        Args:
            asked: the request.
            caller: who sent it.
            listen: stands between the plan and the scheduler, to see what is asked and answered.

        Raises:
            Refused: when it is too large, the queue is full, or it is not finished in time.
            RerankError: when it cannot be answered.
            asyncio.CancelledError: when the client has gone.
        """
        await self._check(asked)
        self.admission.enter(caller.client, len(asked.texts))
        query_id = f"{caller.request_id}/{next(self._numbers)}"  # a client may send one id twice
        answered = False
        try:
            work = _Work()
            plan = self.plan(asked, query_id, work)
            plan = plan if listen is None else listen(plan)
            ranking = await _in_time(self.scheduler.submit(plan, client=caller.client), caller)
            answered = True
            return self._answered(asked, caller.request_id, ranking, work)
        finally:
            self.ledger.forget(query_id)
            self.admission.leave(caller.client, len(asked.texts), answered=answered)

    def plan(self, asked: Asked, query_id: str, work: _Work | None = None) -> Plan:
        """A request as a plan; what it costs is charged to the query of this id."""
        query = Query(query_id, asked.query, asked.instruction)
        given = [Document(str(index), text) for index, text in enumerate(asked.texts)]
        query, documents = cut(self.reranker.judge, self.tokens, asked, query, given)
        ranking = Ranking.unscored(query, documents)
        return (
            yield from self.reranker.plan(
                ranking,
                long_documents=asked.long_documents,
                window_tokens=asked.window_tokens,
                stride_tokens=asked.stride_tokens,
                ledger=self.ledger,
                passages=None if work is None else work.passages,
            )
        )

    @property
    def batch_fill(self) -> float | None:
        """The mean share of its token budget that a forward pass filled; None before the first, or without a budget."""
        total, budget = self.ledger.total, getattr(self.reranker.judge, "token_budget", None)
        return total.get("tokens_real", 0) / (total["calls"] * budget) if budget and total.get("calls") else None

    @property
    def description(self) -> dict[str, Any]:
        """What a client may want to know of it."""
        choices = getattr(self.reranker.judge, "choices", {})
        return {
            "id": self.name,
            "aliases": list(self.served.aliases),
            "reranker": self.reranker.name,
            "algorithm": self.reranker.recipe.described,
            "judge": type(self.reranker.judge).__name__,
            "scores": self.scores,
            "reads_instructions": self.reads_instructions,
            "max_tokens": getattr(self.reranker.judge, "max_tokens", None),
            "token_budget": getattr(self.reranker.judge, "token_budget", None),
            "dtype": str(choices.get("dtype", "")),
            "at_once": self._at_once,
            "queue": self.settings.queue,
            "max_documents": self.settings.max_documents,
        }

    def close(self) -> None:
        """Finish what is at work, and let go of the model."""
        self.scheduler.close(cancel=True)
        self.reranker.close()

    async def _check(self, asked: Asked) -> None:
        """Refuse what is too large, and options that would change nothing."""
        most = self.settings
        if len(asked.texts) > most.max_documents:
            raise Refused(413, f"{len(asked.texts)} documents; send at most {most.max_documents} in a request")
        if asked.instruction and not self.reads_instructions:
            raise InputError(f"model {self.name!r} reads no instruction; leave it out")
        if asked.size > most.max_tokens:  # a token has a byte at least
            tokens = await asyncio.to_thread(count_tokens, self.tokens, asked, most.max_tokens)
            if tokens > most.max_tokens:
                raise Refused(413, f"{tokens} tokens or more; send at most {most.max_tokens} in a request")

    def _answered(self, asked: Asked, request_id: str, ranking: Ranking, work: _Work) -> Answered:
        usual = asked.long_documents is None and (asked.window_tokens, asked.stride_tokens) == (None, None)
        numbers, means = relevances(ranking, self.reranker, calibrated=usual)
        kept = list(zip(ranking, numbers, strict=True))
        if (least := self.reranker.threshold) is not None and means == "calibrated":
            kept = [(candidate, number) for candidate, number in kept if number >= least]
        warnings = [RANK_ONLY] if means == RANK_ONLY else []
        if asked.raw:
            if any(candidate.score is None for candidate in ranking):
                raise InputError(
                    f"model {self.name!r} puts documents in order and does not score them; leave raw scores out"
                )
            kept = [(candidate, candidate.score or 0.0) for candidate, _ in kept]
            warnings = []
        elif means != "calibrated" and self.reranker.calibration is not None:
            warnings.append("not calibrated: the calibration is of documents that are read as the server was told")
        account = self.ledger.account(ranking.query.query_id)
        if cut_off := int(account.get("truncated_documents", 0)):
            warnings.append(f"{cut_off} documents were longer than the model reads, and cut")
        hits = [_hit(candidate, number, work) for candidate, number in kept]
        tokens = int(account.get("tokens_real", 0) + account.get("tokens_reused", 0))
        return Answered(request_id, self.name, tuple(hits[: asked.top]), tokens, account, tuple(warnings))

    @property
    def _at_once(self) -> int:
        if self.settings.at_once is not None:
            return self.settings.at_once
        device = str(getattr(self.reranker.judge, "choices", {}).get("device", ""))
        return 512 if device.startswith("cuda") else 64


def _hit(candidate: Candidate, number: float, work: _Work) -> Hit:
    doc_id = candidate.document.doc_id
    passage = work.passages.get(doc_id)
    return Hit(int(doc_id), number, None if passage is None else passage.text, candidate.score)


async def _in_time(future: Future[Ranking], caller: Caller) -> Ranking:
    """The ranking, unless the deadline passes or the client hangs up before; the work is then given up."""
    waited = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(caller.gone())
    try:
        either: list[asyncio.Future[Any]] = [waited, gone]
        await asyncio.wait(either, timeout=caller.deadline, return_when=asyncio.FIRST_COMPLETED)
        if waited.cancelled():
            raise Refused(503, "the server is shutting down", retry_after=1)
        if waited.done():
            return waited.result()
        if gone.done():
            raise Refused(499, "the client has gone")
        raise Refused(504, f"not finished in {caller.deadline:g} seconds")
    finally:
        gone.cancel()
        future.cancel()  # at once, where cancelling what waits for it would take the loop's next turn
