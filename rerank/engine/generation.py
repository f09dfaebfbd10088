"""Writing text with a causal model: many texts at once, each as if it were alone.

A step writes one token for every running text, in one forward pass. A text that ends makes room for the next, whose
prompt is computed before the step that follows: no slot is idle while a text waits. What prompts begin with is computed
once (`causal.py`). In float32 on the CPU a text does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank.engine.causal import CausalLM
from rerank.engine.writing.requests import Generated, Outcome, Request, Written, check
from rerank.engine.writing.run import Writing
from rerank.errors import InputError

__all__ = ["Generated", "Outcome", "Request", "Writer", "Writing", "Written"]


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
        return Writing(self.engine, self.tokenizer, self.slots, self.room, requests, paths)
