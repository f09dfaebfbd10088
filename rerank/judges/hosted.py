"""Any model behind an OpenAI-compatible server as a judge, for every prompt."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from rerank import prompts
from rerank.engine.scheduling.retries import Retry
from rerank.errors import InputError, JudgeError, Transient
from rerank.judges.choosing import ASKS
from rerank.judges.hosting.bills import Prices, charge
from rerank.judges.hosting.choosing import APIS, api_for, way_for
from rerank.judges.hosting.providers import api_key, hosting
from rerank.judges.hosting.replies import Reply, reply
from rerank.judges.hosting.server import Refused, Server
from rerank.judges.hosting.telling import Words
from rerank.prompts import Prompt
from rerank.questions import Answer, Bill, Compare, Grade, GradeSet, Permute, Pick, Question, Write

__all__ = ["Hosted"]


class Hosted:
    """A model of OpenAI, vLLM, llama.cpp, TGI, `transformers serve`, OpenRouter … that is asked by one prompt.

    It answers what the prompt asks: a grade, a comparison, a choice, an order, a text. See docs/hosted.md for what each
    needs of a server.

    Args:
        name: "PROVIDER:MODEL", "http://HOST/v1#MODEL", or an address alone where one model is served; with `base_url`
            the model as the server calls it.
        prompt: the name of a prompt (`rerank list prompts`), a path that ends in .toml, or a prompt.
        base_url: an address, or a provider's name.
        api_key_env: the environment variable that holds the key; by default the provider's own, "" for none. The key
            itself stands in no journal, ledger, note or error.
        mode: "likelihood" reads log-probabilities, "generation" what is written. By default as the prompt is usually
            asked: orders are written (but for FIRST's), everything else is read by log-probabilities.
        api: "chat", or "completions", which continues a text; by default what the prompt is.
        targets, grades: as of `rerank.judges.target_token.TargetToken`; the prompt's targets by default.
        reduction: "mean" or "sum" over the query's tokens, where a query's likelihood is asked for.
        new_tokens: the most tokens to write; as many as the answer needs by default, more for a model that thinks.
        logprobs: how many of the likeliest tokens are asked for. Servers have their limits: 20 of OpenAI's chats, 5 of
            its completions.
        temperature, seed: sent with every request; a further `draw` of a question has a seed of its own.
        words: the most words of a document; the prompt's by default.
        tokenizer, max_tokens: the model's tokenizer, a folder or a hub id, to cut documents to a number of tokens.
        extra: further fields of every request, such as {"reasoning_effort" = "low"}.
        leave_out: fields that the server refuses, such as ["seed"].
        timeout: seconds in which the server must connect, and in which it must send something.
        concurrent: questions that are with the server at once.
        tries: how often a question is asked that fails in passing.
        input_price, output_price, cached_price: money for a million tokens, in any one currency; what was cached costs
            `input_price` by default.
        identity: what stands for the server in keys, in place of its address: give it where the address changes and
            the model does not.

    Raises:
        InputError: when there is no such provider or key, or options do not fit the prompt.
        CheckpointError: when there is no such tokenizer.
        JudgeError: when the name leaves the model to the server, and it does not say one.
    """

    answers: frozenset[type] = frozenset({Grade, GradeSet, Compare, Pick, Permute, Write})
    reads_ids: ClassVar[bool] = False
    scoring: ClassVar[str] = "hosted 1"

    def __init__(
        self,
        name: str,
        *,
        prompt: str | Path | Prompt,
        base_url: str | None = None,
        api_key_env: str | None = None,
        mode: str | None = None,
        api: str | None = None,
        targets: tuple[str, ...] | None = None,
        grades: tuple[float, ...] | None = None,
        reduction: str | None = None,
        new_tokens: int | None = None,
        logprobs: int = 20,
        temperature: float = 0.0,
        seed: int = 0,
        words: int | None = None,
        tokenizer: str | Path | None = None,
        max_tokens: int | None = None,
        extra: dict[str, Any] | None = None,
        leave_out: tuple[str, ...] = (),
        timeout: float = 60.0,
        concurrent: int = 8,
        tries: int = 6,
        input_price: float = 0.0,
        output_price: float = 0.0,
        cached_price: float | None = None,
        identity: str | None = None,
    ) -> None:
        _check(new_tokens=new_tokens, logprobs=logprobs, words=words, concurrent=concurrent, timeout=timeout)
        found = prompt if isinstance(prompt, Prompt) else prompts.find(prompt)
        self.prompt = found if words is None else replace(found, words=words)
        self.answers = frozenset({ASKS[self.prompt.asks]})
        self.way = way_for(self.prompt, mode, targets, grades, reduction, new_tokens)
        self.api = api_for(api, self.prompt, self.way)
        self.told = Words(self.prompt, chats=self.api == "chat", tokenizer=tokenizer, max_tokens=max_tokens)
        self.prices = Prices(input_price, output_price, cached_price)
        hosted = hosting(str(name), base_url)
        self.provider = hosted.provider
        key, self._key_from = api_key(self.provider, api_key_env)
        self.server = Server(self.provider.base_url, key=key, timeout=timeout, connections=concurrent)
        self.model = hosted.model or _only(self.server)
        self.logprobs, self.temperature, self.seed = logprobs, temperature, seed
        self.extra, self.leave_out = dict(extra or {}), (*self.provider.leave_out, *leave_out)
        self.concurrent, self.retry = concurrent, Retry(tries=tries)
        self.identity = self.provider.base_url if identity is None else identity
        self._refused: Refused | None = None
        self._was_told = False

    @cached_property
    def key(self) -> str:
        """Hash of all that decides an answer: the model and who serves it, the prompt, the options; never the key.

        The address belongs to it, because two servers give one name to different quantisations of a model.
        """
        told = [self.told.identity, self.way.mode, self.api, *map(str, self._read_by)]
        sent = json.dumps([self.extra, *self.leave_out], sort_keys=True, default=str)
        sampled = [self.temperature, self.seed, self.way.new_tokens, self.logprobs if self.way.reads_numbers else None]
        parts = [self.scoring, self.identity, self.model, *self.prompt.identity, *told, sent, *map(str, sampled)]
        hashed = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
        return f"hosted-{hashed[:32]}"

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen, for the ledger."""
        limit = "all of a document" if self.prompt.words is None else f"{self.prompt.words} words of a document"
        if self.told.max_tokens is not None:
            limit = f"{self.told.max_tokens} tokens of a prompt"
        return {
            "model": self.model,
            "server": self.provider.base_url,
            "key from": self._key_from or "none is sent",
            "prompt": self.prompt.name,
            "asked by": f"{self.api}, {self.way.mode}",
            "read": limit,
            "temperature": f"{self.temperature:g}, seed {self.seed}",
            "in flight": str(self.concurrent),
            **self.prices.choices,
        }

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Answer | Exception]]:
        """One request a question."""
        for name, value in self.choices.items():
            bill.note(name, value)
        for index, question in enumerate(questions):
            try:
                yield index, self._answer(question, bill)
            except (InputError, JudgeError) as error:
                yield index, error

    def check(self) -> dict[str, str]:
        """Whether the server answers, what it serves, and whether it tells log-probabilities, for `rerank doctor`.

        One token is written for it, and paid.

        Raises:
            JudgeError: when it does not answer.
        """
        body = {"model": self.model, "messages": [{"role": "user", "content": "Say yes."}]}
        found = reply(self.server.post(APIS["chat"], self._body(body, 1, numbers=True, chats=True, draw=0)))
        served = self.server.models()
        return {
            "models": ", ".join(served[:10]) or "not told",
            "log-probabilities": "told" if found.steps else "not told: mode='generation' alone",
            "usage": "told" if found.usage else "not told: neither tokens nor price are counted",
        }

    def close(self) -> None:
        """Let go of the connections; they are opened again when it is asked."""
        self.server.close()

    def __repr__(self) -> str:
        return f"<Hosted {self.model} at {self.provider.base_url}: {self.prompt.name} by {self.way.mode}>"

    def _answer(self, question: Question, bill: Bill) -> Answer:
        if self._refused is not None:
            raise self._refused
        self.way.check(question)
        most = self.way.most(question)
        told = self.told.told(question, most + (len(question.query.text) if self.way.echo else 0))
        behind = self.way.behind(question, told.text)
        started = time.perf_counter()
        try:
            got = self._reply(question, told.fields(behind), most)
        except Refused as error:
            self._refused = error
            raise
        charge(bill, question, got, told, self.prices, time.perf_counter() - started)
        return self._read(question, got, behind if told.messages is None else self.prompt.answer, bill)

    def _read(self, question: Question, got: Reply, begun: str, bill: Bill) -> Answer:
        if not self.way.is_told(got):
            if self._was_told:
                raise JudgeError(self.way.no_numbers)
            self._refused = Refused(self.way.no_numbers)  # it never tells any: further questions would be paid in vain
            raise self._refused
        self._was_told = True
        if self.api == "completions" and not self.way.echo:  # the prompt ends with the answer's beginning
            got = replace(got, text=self.prompt.answer + got.text)
        reading = self.way.read(question, got, begun)
        if reading.outside:
            bill.charge(question.query.query_id, words_untold=reading.outside)
        return reading.answer

    def _reply(self, question: Question, told: Mapping[str, Any], most: int) -> Reply:
        body = {"model": self.model, **told}
        numbers = self.way.reads_numbers
        sent = self._body(body, most, numbers=numbers, chats=self.api == "chat", draw=question.draw)
        return reply(self.server.post(APIS[self.api], sent))

    def _body(self, body: Mapping[str, Any], most: int, *, numbers: bool, chats: bool, draw: int) -> dict[str, Any]:
        fields: dict[str, Any] = {**body, "temperature": self.temperature, "seed": self.seed + draw}
        fields[self.provider.length if chats else "max_tokens"] = most
        if numbers:
            fields |= {"logprobs": True, "top_logprobs": self.logprobs} if chats else {"logprobs": self.logprobs}
        if self.way.echo and not chats:
            fields |= {"echo": True}
        if self.prompt.stop and not self.way.echo:
            fields["stop"] = list(self.prompt.stop)
        return {name: value for name, value in (fields | self.extra).items() if name not in self.leave_out}

    @property
    def _read_by(self) -> tuple[object, ...]:
        """What a reply is read by, beside the prompt."""
        way = self.way
        return tuple(getattr(way, name, None) for name in ("targets", "grades", "reduction"))


def _check(**options: float | None) -> None:
    for name, value in options.items():
        if value is not None and not value > 0:
            raise InputError(f"{name}={value}; it is more than 0")


def _only(server: Server) -> str:
    """The one model that a server serves.

    Raises:
        JudgeError: when there is none, or there are several.
    """
    try:
        served = server.models()
    except Transient as error:
        raise JudgeError(str(error)) from error
    if len(served) != 1:
        named = ", ".join(served[:10]) or "none"
        raise JudgeError(f"{server.base_url} serves {named}; name the model: {server.base_url}#MODEL")
    return served[0]
