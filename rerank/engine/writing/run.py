"""One call of the writer: prompts begin where there is room, every step writes a token of each running text."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerank.engine.causal import CausalLM, Cost
from rerank.engine.decoders.kept import digests
from rerank.engine.decoders.kv_pool import Run
from rerank.engine.decoders.model import Ask
from rerank.engine.decoders.plan import Ids
from rerank.engine.t5.encoder import Work
from rerank.engine.writing.choosing import picked
from rerank.engine.writing.requests import GenerationCost, Outcome, Request
from rerank.engine.writing.stopping import Decoder, ends_of
from rerank.engine.writing.text import PromptBatch, Text
from rerank.errors import InputError, JudgeError

__all__ = ["Writing"]


class Writing:
    """Texts while they are written: an iterator over (index of the request, text), as they end.

    Use it in a `with` statement, or iterate to the end: what it holds in the pool is given back then.

    Attributes:
        cost: what it took so far.
    """

    def __init__(
        self,
        engine: CausalLM,
        tokenizer: Any,
        slots: int,
        room: int,
        requests: Sequence[Request],
        paths: Sequence[Sequence[Ids]],
    ) -> None:
        self.cost = GenerationCost()
        self._engine, self._tokenizer, self._slots, self._room = engine, tokenizer, slots, room
        self._requests, self._paths = requests, paths
        self._ends = ends_of(engine.model.model)
        self._waiting = deque(range(len(requests)))
        self._running: list[Text] = []
        self._batches: list[PromptBatch] = []
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
        batch = PromptBatch(
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

    def _text(self, index: int, path: tuple[Run, ...], batch: PromptBatch) -> Text:
        request = self._requests[index]
        ends = self._ends if request.stop_ids is None else frozenset(request.stop_ids)
        decoder = Decoder(self._tokenizer, request.stop) if self._tokenizer is not None else None
        return Text(
            index=index,
            request=request,
            ends=ends,
            decoder=decoder,
            random=np.random.default_rng([request.seed, request.draw]),
            prompt=path,
            batch=batch,
        )

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

    def _written(self, texts: Sequence[Text], hidden: Tensor) -> Iterator[tuple[int, Outcome]]:
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

    def _finish(self, text: Text) -> None:
        self._running.remove(text)
        text.free(self._engine)
        self._held -= text.request.max_tokens
        text.batch.open -= 1
        if not text.batch.open:
            text.batch.context.__exit__(None, None, None)
            self._batches.remove(text.batch)
            self._held -= text.batch.tokens

    @torch.inference_mode()
    def _chosen(self, texts: Sequence[Text], hidden: Tensor) -> list[int | InputError | JudgeError]:
        """The next token of each text: [texts, dim]."""
        chosen: dict[int, int | InputError | JudgeError] = {}
        groups: dict[Ids | None, list[int]] = {}
        for place, text in enumerate(texts):
            try:
                groups.setdefault(text.allowed(self._engine.limits), []).append(place)
            except InputError as error:
                chosen[place] = error
        head = self._engine.head
        for ids, places in groups.items():
            rows = hidden[places]
            logits = head.all_logits(rows) if ids is None else head.logits(rows, ids)
            self.cost.flops += head.flops(len(places), logits.shape[1])
            for place, index in zip(places, picked([texts[place] for place in places], logits), strict=True):
                chosen[place] = ids[index] if ids is not None and isinstance(index, int) else index
        return [chosen[place] for place in range(len(texts))]
