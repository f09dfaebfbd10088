"""Writing text with a causal model: many texts at once, each as if it were alone.

A step writes one token for every running text, in one forward pass. A text that ends makes room for the next, whose
prompt is computed before the step that follows: no slot is idle while a text waits. What prompts begin with is computed
once (`causal.py`). In float32 on the CPU a text does not depend on its neighbours.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerank.engine.causal import CausalLM, Cost, Held
from rerank.engine.causal_kept import digests
from rerank.engine.causal_model import Ask, Row
from rerank.engine.causal_plan import Ids
from rerank.engine.choosing import drawn
from rerank.engine.generation_requests import Allowed, GenerationCost, Request, Written, check
from rerank.engine.kv_pool import Run, joined
from rerank.engine.stopping import Decoder
from rerank.engine.t5_encoder import Work
from rerank.errors import InputError, JudgeError

__all__ = ["Generated", "Request", "Writer", "Writing", "Written"]

BLOCK = 64
"""Slots that a text takes from the pool at once for what it writes."""

Outcome = Written | InputError | JudgeError
"""A text, or why there is none."""


@dataclass(frozen=True)
class Generated:
    """A text, or what went wrong with it, for each request; and what they took."""

    texts: list[Outcome]
    cost: GenerationCost


class Writer:
    """A causal model that writes.

    Args:
        engine: which runs the model.
        tokenizer: of the checkpoint, to decode with; without it there are no stop strings, and no texts but ids.
        slots: texts that are written at once.
        room: tokens of prompts and texts that are held at once, in slots of the pool. What does not fit waits.
    """

    def __init__(self, engine: CausalLM, tokenizer: Any = None, *, slots: int = 32, room: int = 65_536) -> None:
        if slots < 1 or room < 1:
            raise InputError(f"slots={slots} and room={room} hold no text; choose at least 1")
        self.engine = engine
        self.tokenizer = tokenizer
        self.slots = slots
        self.room = room

    def write(self, requests: Sequence[Request]) -> Generated:
        """Write texts, and return them in the order given.

        Raises:
            InputError: when a request cannot be written: it is empty, not in the vocabulary, or too long. Nothing has
                been computed then. What goes wrong later takes the place of that text alone.
        """
        with self.start(requests) as writing:
            outcomes = dict(writing)
        return Generated([outcomes[index] for index in range(len(requests))], writing.cost)

    def start(self, requests: Sequence[Request]) -> Writing:
        """Write texts and have each as soon as it ends: iterate over what comes back. Errors as of `write`."""
        limits = self.engine.limits
        if self.engine.head.labels:
            raise InputError(f"this {limits.name} has no head over the vocabulary, and writes nothing")
        paths = limits.paths([request.prompt for request in requests], "prompt of request")
        for index, (request, path) in enumerate(zip(requests, paths, strict=True)):
            check(index, request, path, limits, self.room, decodes=self.tokenizer is not None)
        return Writing(self, requests, paths)


class Writing:
    """Texts while they are written: an iterator over (index of the request, text), as they end.

    Use it in a `with` statement, or iterate to the end: what it holds in the pool is given back then.

    Attributes:
        cost: what it took so far.
    """

    def __init__(self, writer: Writer, requests: Sequence[Request], paths: Sequence[Sequence[Ids]]) -> None:
        self.cost = GenerationCost()
        self._engine, self._slots, self._room = writer.engine, writer.slots, writer.room
        self._tokenizer = writer.tokenizer
        self._requests, self._paths = requests, paths
        self._ends = _ends(writer.engine.model.model)
        self._waiting = deque(range(len(requests)))
        self._running: list[_Text] = []
        self._batches: list[_Batch] = []
        self._held = self._begun = 0  # tokens: of room that is taken, and of all prompts so far
        self._digests = [digests(path) for path in paths]
        self._coming = Counter(digest for path in self._digests for digest in path)
        self._outcomes = self._write()

    def __iter__(self) -> Iterator[tuple[int, Outcome]]:
        return self._outcomes

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop writing, and give everything back to the pool."""
        self._waiting.clear()
        for text in self._running:
            text.free(self._engine)
        for batch in self._batches:
            batch.context.__exit__(None, None, None)
        self._running, self._batches, self._held = [], [], 0

    def _write(self) -> Iterator[tuple[int, Outcome]]:
        try:
            while self._waiting or self._running:
                if admitted := self._admitted():
                    yield from self._begin(admitted)
                else:
                    yield from self._step()
        finally:
            self.close()

    # -- prompts -------------------------------------------------------------------------------------------------

    def _admitted(self) -> list[int]:
        """Which of those that wait may begin, in their order."""
        admitted: list[int] = []
        while self._waiting and len(self._running) + len(admitted) < self._slots:
            need = self._needed(self._waiting[0])
            if self._held + need > self._room:
                break
            self._held += need
            admitted.append(self._waiting.popleft())
        return admitted

    def _needed(self, index: int) -> int:
        return sum(map(len, self._paths[index])) + self._requests[index].max_tokens

    def _begin(self, admitted: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
        """Compute prompts, and write the first token of each."""
        self._keep_for_coming(admitted)
        context = self._engine.held([self._paths[index] for index in admitted])
        held = context.__enter__()
        batch = _Batch(
            context, sum(len(segment) for index in admitted for segment in self._paths[index]), len(admitted)
        )
        self._batches.append(batch)
        self._begun += batch.tokens
        self._charge(held.cost)
        texts = [self._text(index, path, batch) for index, path in zip(admitted, held.paths, strict=True)]
        self._running += texts
        yield from self._written(texts, held.hidden)

    def _keep_for_coming(self, admitted: Sequence[int]) -> None:
        """Compute beginnings that prompts share with some that still wait, and keep them for these."""
        for index in admitted:
            self._coming.subtract(self._digests[index])
        beginnings = []
        for index in admitted:
            digest = self._digests[index][:-1]  # the last segment is computed for every prompt
            shared = next((place for place, each in enumerate(digest) if self._coming[each] < 1), len(digest))
            if shared:
                beginnings.append(self._paths[index][:shared])
        if beginnings and sum(len(segment) for path in beginnings for segment in path) <= self._engine.keep_tokens:
            self._charge(self._engine.prefill(beginnings))

    def _charge(self, cost: Cost) -> None:
        self.cost.prefill += cost.tokens
        self.cost.reused = self._begun - self.cost.prefill
        self.cost.tokens += cost.tokens
        self.cost.padded += cost.padded
        self.cost.flops += cost.flops
        self.cost.calls += cost.calls

    def _text(self, index: int, path: tuple[Run, ...], batch: _Batch) -> _Text:
        request = self._requests[index]
        ends = self._ends if request.stop_ids is None else frozenset(request.stop_ids)
        decoder = Decoder(self._tokenizer, request.stop) if self._tokenizer is not None else None
        return _Text(index, request, path, batch, ends, decoder, np.random.default_rng([request.seed, request.draw]))

    # -- steps ---------------------------------------------------------------------------------------------------

    def _step(self) -> Iterator[tuple[int, Outcome]]:
        """Write one token more of every running text."""
        work = Work()
        texts = list(self._running)
        rows = [text.row(self._engine) for text in texts]
        asks = [Ask(index) for index in range(len(rows))]
        hidden = self._engine.model.forward(rows, asks, self._engine.pool, work)
        self.cost.steps += 1
        self.cost.calls += 1
        self.cost.tokens += len(rows)
        self.cost.padded += work.rows - len(rows)
        self.cost.flops += work.flops
        yield from self._written(texts, hidden)

    def _written(self, texts: Sequence[_Text], hidden: Tensor) -> Iterator[tuple[int, Outcome]]:
        """Add a token to each text; those that end are given out, and make room."""
        for text, token in zip(texts, self._chosen(texts, hidden), strict=True):
            if not isinstance(token, int):
                outcome: Outcome | None = token
            else:
                self.cost.generated += 1
                outcome = text.add(token)
            if outcome is not None:
                self._finish(text)
                yield text.index, outcome

    def _finish(self, text: _Text) -> None:
        self._running.remove(text)
        text.free(self._engine)
        self._held -= text.request.max_tokens
        text.batch.open -= 1
        if not text.batch.open:
            text.batch.context.__exit__(None, None, None)
            self._batches.remove(text.batch)
            self._held -= text.batch.tokens

    @torch.inference_mode()
    def _chosen(self, texts: Sequence[_Text], hidden: Tensor) -> list[int | InputError | JudgeError]:
        """The next token of each text: [texts, dim]."""
        chosen: dict[int, int | InputError | JudgeError] = {}
        groups: dict[Ids | None, list[int]] = {}
        for place, text in enumerate(texts):
            try:
                groups.setdefault(self._allowed(text), []).append(place)
            except InputError as error:
                chosen[place] = error
        head = self._engine.head
        for ids, places in groups.items():
            rows = hidden[places]
            logits = head.all_logits(rows) if ids is None else head.logits(rows, ids)
            self.cost.flops += head.flops(len(places), logits.shape[1])
            for place, index in zip(places, _picked([texts[place] for place in places], logits), strict=True):
                chosen[place] = index if ids is None or not isinstance(index, int) else ids[index]
        return [chosen[place] for place in range(len(texts))]

    def _allowed(self, text: _Text) -> Ids | None:
        """The tokens that may come next, by falling preference of equals; None for all."""
        allowed: Allowed | None = text.request.allowed
        if allowed is None:
            return None
        ids = sorted(set(allowed(tuple(text.ids)) if callable(allowed) else allowed))
        self._engine.limits.check_ids(f"request {text.index}: tokens allowed behind {text.ids}", ids)
        return tuple(ids)


@dataclass(eq=False)
class _Batch:
    """Prompts that were computed together, and are held until the last of their texts ends."""

    context: AbstractContextManager[Held]
    tokens: int
    open: int


@dataclass(eq=False)
class _Text:
    """A text that is being written."""

    index: int
    request: Request
    prompt: tuple[Run, ...]
    batch: _Batch
    ends: frozenset[int]
    decoder: Decoder | None
    random: np.random.Generator
    ids: list[int] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def row(self, engine: CausalLM) -> Row:
        """The last token, which is read to write the next, with a slot of its own."""
        read = len(self.ids) - 1
        used = read % BLOCK
        if not used:
            size = min(BLOCK, self.request.max_tokens - 1 - read)
            self.runs.append((engine.pool.allocate(size), size))
        start, _ = self.runs[-1]
        path = joined((*self.prompt, *self.runs[:-1], (start, used)))
        return Row([self.ids[-1]], start + used, path)

    def add(self, token: int) -> Written | None:
        """Take in a token; the text when it ends there."""
        if token in self.ends:
            return Written(tuple(self.ids), self._decoded(), "stop token")
        self.ids.append(token)
        if self.decoder is not None and (stopped := self.decoder.stopped(self.ids)):
            return Written(tuple(self.ids), stopped[0], "stop string", stopped[1])
        if len(self.ids) == self.request.max_tokens:
            return Written(tuple(self.ids), self._decoded(), "max tokens")
        return None

    def free(self, engine: CausalLM) -> None:
        """Give its slots back."""
        for start, size in self.runs:
            engine.pool.free(start, size)
        self.runs = []

    def _decoded(self) -> str | None:
        return None if self.decoder is None else self.decoder.text(self.ids)


def _picked(texts: Sequence[_Text], logits: Tensor) -> list[int | JudgeError]:
    """For each text the index of what it writes next: [texts, tokens]."""
    tops, greedy = logits.max(-1)
    fine = tops.isfinite().tolist()
    picked: list[int | JudgeError] = list(greedy.tolist())
    for place, text in enumerate(texts):
        request = text.request
        if not fine[place]:
            picked[place] = JudgeError(
                f"the model gave no finite number behind {len(text.ids)} tokens of request {text.index}: "
                "its weights or its dtype?"
            )
        elif request.temperature:
            row = logits[place].cpu().numpy()
            options = {"temperature": request.temperature, "top_p": request.top_p}
            picked[place] = drawn(row, **options, chance=text.random.random())
    return picked


def _ends(model: Any) -> frozenset[int]:
    """The tokens that the model's configuration ends texts with."""
    for config in (getattr(model, "generation_config", None), model.config):
        ids = getattr(config, "eos_token_id", None)
        if ids is not None:
            return frozenset([ids] if isinstance(ids, int) else ids)
    return frozenset()
