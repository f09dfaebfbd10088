"""A text that is being written: its tokens, its slots in the pool, and where it ends."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from rerank.engine.causal import CausalLM, Held
from rerank.engine.decoders.kv_pool import Run, joined
from rerank.engine.decoders.model import Row
from rerank.engine.decoders.plan import Ids
from rerank.engine.decoders.prompts import Limits
from rerank.engine.writing.requests import Request, Written
from rerank.engine.writing.stopping import Decoder

__all__ = ["BLOCK", "Draft", "PromptBatch", "Text"]

BLOCK = 64
"""Slots that a text takes from the pool at once for what it writes."""


@dataclass(eq=False)
class PromptBatch:
    """Prompts that were computed together, and are held until the last of their texts ends."""

    context: AbstractContextManager[Held]
    tokens: int
    open: int


@dataclass(eq=False, kw_only=True)
class Draft:
    """A text that is being written, wherever its keys and values lie.

    Args:
        index, request: which text, and what was asked for.
        ends: tokens that end it.
        decoder: to look for the strings that end it; None without a tokenizer.
        random: where chance comes from.
        ids: what was written so far.
    """

    index: int
    request: Request
    ends: frozenset[int]
    decoder: Decoder | None
    random: np.random.Generator
    ids: list[int] = field(default_factory=list)

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

    def allowed(self, limits: Limits) -> Ids | None:
        """The tokens that may come next, by their ids; None for all.

        Raises:
            InputError: when none may, or one is not in the vocabulary.
        """
        allowed = self.request.allowed
        if allowed is None:
            return None
        ids = sorted(set(allowed(tuple(self.ids)) if callable(allowed) else allowed))
        limits.check_ids(f"request {self.index}: tokens allowed behind {self.ids}", ids)
        return tuple(ids)

    def _decoded(self) -> str | None:
        return None if self.decoder is None else self.decoder.text(self.ids)


@dataclass(eq=False, kw_only=True)
class Text(Draft):
    """A text whose keys and values are in the pool."""

    prompt: tuple[Run, ...]
    batch: PromptBatch
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

    def free(self, engine: CausalLM) -> None:
        """Give its slots back."""
        for start, size in self.runs:
            engine.pool.free(start, size)
        self.runs = []
