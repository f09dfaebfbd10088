"""Rerankers behind somebody's server: Cohere's, Jina's, TEI's, vLLM's, ours."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from rerank.engine.scheduling.retries import Retry
from rerank.errors import InputError, JudgeError, Transient
from rerank.judges.hosting.dialects import DIALECTS, Place, Reply, place, read
from rerank.judges.hosting.providers import Provider, api_key
from rerank.judges.hosting.server import Refused, Server
from rerank.questions import Answer, Bill, Grade, Graded, GradedSet, GradeSet, Question
from rerank.types import Query

__all__ = ["Remote"]

TEI_SAYS = "max_client_batch_size"
"""What stands in the `/info` of text-embeddings-inference, and of servers that answer in its way."""


class Remote:
    """A server that is sent a query and documents and answers with scores, which are handed on as they are.

    A list of documents is one request, or several where it is longer than a request may be (`group` of the algorithm
    `group-scores`). See docs/remote.md.

    Args:
        name: "http://HOST/v1/rerank#MODEL", the address alone, or "cohere:MODEL", "jina:MODEL", "voyage:MODEL".
        dialect: "cohere", "jina", "tei" or "voyage"; by default what the address says, and where that does not tell,
            what the server says of itself when it is first asked.
        api_key_env: the environment variable that holds the key; by default the provider's own, "" for none. The key
            stands in no journal, ledger, note or error.
        instruction_field: the field in which a query's instruction is sent; without one, queries that carry an
            instruction are refused.
        extra: further fields of every request, such as {"max_tokens_per_doc": 512} or {"raw_scores": True}.
        leave_out: fields that the server refuses, such as ["return_documents"].
        timeout: seconds in which the server must connect, and in which it must send something.
        concurrent: requests that are with the server at once.
        tries: how often a request is sent that fails in passing; a Retry-After is kept to.
        input_price: money for a million tokens, where the server tells how many it read.
        search_price: money for a search, where the server tells how many it bills.
        identity: what stands for the server in keys, in place of its address: give it where the address changes and
            the model does not.

    Raises:
        UnknownName: when there is no such provider or dialect.
        InputError: when the address is none, a key is missing, or a number makes no sense.
    """

    answers: ClassVar[frozenset[type]] = frozenset({Grade, GradeSet})
    reads_ids: ClassVar[bool] = False
    scoring: ClassVar[str] = "remote 1"

    def __init__(
        self,
        name: str,
        *,
        dialect: str | None = None,
        api_key_env: str | None = None,
        instruction_field: str = "",
        extra: dict[str, Any] | None = None,
        leave_out: tuple[str, ...] = (),
        timeout: float = 60.0,
        concurrent: int = 8,
        tries: int = 6,
        input_price: float = 0.0,
        search_price: float = 0.0,
        identity: str | None = None,
    ) -> None:
        for option, value in (("timeout", timeout), ("concurrent", concurrent)):
            if not value > 0:
                raise InputError(f"{option}={value}; it is more than 0")
        if not (input_price >= 0 and search_price >= 0):
            raise InputError(f"input_price={input_price} and search_price={search_price}; a price is 0 or more")
        self._place = place(str(name), dialect)
        if self._place.dialect == "tei" and self._place.model:
            raise InputError(f"text-embeddings-inference serves one model; leave out {self._place.model!r}")
        provider = Provider(self._place.address, self._place.api_key_env)
        key, self._key_from = api_key(provider, api_key_env)
        self.server = Server(self._place.address, key=key, timeout=timeout, connections=concurrent)
        self.model, self.concurrent, self.retry = self._place.model, concurrent, Retry(tries=tries)
        self.instruction_field, self.extra, self.leave_out = instruction_field, dict(extra or {}), tuple(leave_out)
        self.input_price, self.search_price = input_price, search_price
        self.key = self._hash(identity)  # now: what the server tells of itself later is nothing that was chosen
        self._refused: Refused | None = None

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen, for the ledger."""
        priced = {"a million tokens": self.input_price, "a search": self.search_price}
        said = ", ".join(f"{price:g} for {what}" for what, price in priced.items() if price)
        return {
            "model": self.model or "the server's",
            "server": self._place.address + self._place.path,
            "dialect": self._place.dialect or "as the server says",
            "scores": "the server's own, on its scale",
            "documents": "sent whole; the server cuts what it does not read",
            "key from": self._key_from or "none is sent",
            "in flight": str(self.concurrent),
            "price": said or "not given",
        }

    def check_queries(self, queries: Sequence[Query]) -> None:
        """Refuse instructions that would not be sent.

        Raises:
            InputError: naming the query.
        """
        for query in queries:
            if query.instruction and not self.instruction_field:
                raise InputError(
                    f"query {query.query_id!r} carries an instruction, for which rerank servers have no common field; "
                    "name this one's with instruction_field=, or leave the instruction out"
                )

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Answer | Exception]]:
        """One request a question."""
        for index, question in enumerate(questions):
            try:
                yield index, self._answer(question, bill)
            except (InputError, JudgeError) as error:
                yield index, error

    def check(self) -> dict[str, str]:
        """Whether the server answers, for `rerank doctor`: it is sent two documents.

        Raises:
            JudgeError: when it does not answer, or not with two scores.
        """
        found = self._sent(Query("check", "what is a reranker?"), ["a model that orders documents", "a fruit"])
        usage = "told" if found.tokens is not None or found.searches is not None else "not told: no price is counted"
        return {"two documents": " and ".join(f"{score:.4g}" for score in found.scores), "usage": usage}

    def close(self) -> None:
        """Let go of the connections; they are opened again when it is asked."""
        self.server.close()

    def __repr__(self) -> str:
        return f"<Remote {self.model or 'reranker'} at {self._place.address}{self._place.path}>"

    def _hash(self, identity: str | None) -> str:
        """Of all that decides a score: who serves what, how it is asked, and what is sent; never the key."""
        where = f"{self._place.address}{self._place.path}" if identity is None else identity
        sent = json.dumps([self.extra, *self.leave_out, self.instruction_field], sort_keys=True, default=str)
        parts = [self.scoring, where, self._place.dialect, self.model, sent]
        return f"remote-{hashlib.sha256(chr(0).join(parts).encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"

    def _answer(self, question: Question, bill: Bill) -> Answer:
        if self._refused is not None:
            raise self._refused
        started = time.perf_counter()
        try:
            found = self._sent(question.query, [document.full_text for document in question.documents])
        except Refused as error:
            self._refused = error
            raise
        self._charge(bill, question, found, time.perf_counter() - started)
        return Graded(found.scores[0]) if isinstance(question, Grade) else GradedSet(found.scores)

    def _sent(self, query: Query, texts: Sequence[str]) -> Reply:
        where = self._found()
        dialect = DIALECTS[where.dialect]
        fields: dict[str, Any] = {"query": query.text, dialect.documents: list(texts), **dialect.fields}
        if self.model:
            fields["model"] = self.model
        if query.instruction:
            fields[self.instruction_field] = query.instruction
        body = {name: value for name, value in (fields | self.extra).items() if name not in self.leave_out}
        return read(self.server.ask("POST", where.path, body), len(texts))

    def _found(self) -> Place:
        """Where and how it is asked; the server tells what the address does not."""
        if not (self._place.path and self._place.dialect):
            self._place = self._detected(self._place)
        return self._place

    def _detected(self, where: Place) -> Place:
        """Who names a model does not mean TEI, which serves one; `/rerank` of others is vLLM's, asked as Cohere is."""
        usual = "cohere" if where.path == "/rerank" else "jina"
        dialect = where.dialect or ("tei" if not where.model and self._speaks_tei() else usual)
        path = where.path or {"tei": "/rerank", "cohere": "/v2/rerank"}.get(dialect, "/v1/rerank")
        return Place(where.address, path, dialect, where.model, where.api_key_env)

    def _speaks_tei(self) -> bool:
        try:
            told = self.server.ask("GET", "/info")
        except Transient:
            raise
        except JudgeError:
            return False
        return isinstance(told, dict) and TEI_SAYS in told

    def _charge(self, bill: Bill, question: Question, found: Reply, seconds: float) -> None:
        for name, value in self.choices.items():
            bill.note(name, value)
        if found.model:
            bill.note("answered by", found.model)
        if found.warnings:
            bill.note("the server warns", "; ".join(found.warnings))
        price = self.input_price * (found.tokens or 0) / 1e6 + self.search_price * (found.searches or 0)
        counted = {"tokens_real": found.tokens, "searches": found.searches, "price": price or None}
        amounts = {name: float(amount) for name, amount in counted.items() if amount is not None}
        bill.charge(question.query.query_id, calls=1, seconds=seconds, **amounts)
