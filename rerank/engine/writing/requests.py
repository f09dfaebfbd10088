"""What a causal model is asked to write, and what it wrote."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rerank.engine.decoders.plan import Ids
from rerank.engine.decoders.prompts import Limits, Prompt
from rerank.errors import InputError, JudgeError

__all__ = ["Allowed", "Generated", "GenerationCost", "Outcome", "Request", "Written"]

Allowed: TypeAlias = Collection[int] | Callable[[Sequence[int]], Collection[int]]
"""Token ids that may be written; or what says which, of the tokens that were written so far."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A text to be written.

    Args:
        prompt: the segments of what it continues.
        max_tokens: the most tokens, at least 1; a stop token counts.
        temperature: 0 takes the likeliest token, and the one with the lowest id of equals; anything above draws.
        top_p: draws from the likeliest tokens that have this much probability together.
        seed, draw: what is drawn depends on these and the prompt alone; another `draw` is another vote.
        stop: strings at which the text ends, themselves left out.
        stop_ids: tokens at which the text ends; by default those that the model's own configuration names.
        allowed: the only tokens that may be written, stop tokens among them; all of them by default.
    """

    prompt: Prompt
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    draw: int = 0
    stop: tuple[str, ...] = ()
    stop_ids: Collection[int] | None = None
    allowed: Allowed | None = None


@dataclass(frozen=True)
class Written:
    """A text that was written.

    Attributes:
        ids: its tokens, without the stop token; with those of the stop string.
        text: it, cut where the stop string begins; None when the writer has no tokenizer.
        end: what ended it.
        stop: the stop string, or None.
    """

    ids: tuple[int, ...]
    text: str | None
    end: Literal["stop token", "stop string", "max tokens"]
    stop: str | None = None

    @property
    def generated(self) -> int:
        """Tokens that the model wrote, the stop token included."""
        return len(self.ids) + (self.end == "stop token")


Outcome: TypeAlias = Written | InputError | JudgeError
"""A text, or why there is none."""


@dataclass
class GenerationCost:
    """What writing took so far.

    Attributes:
        steps: passes that wrote one token for every running text.
        calls: all forward passes, those over prompts included.
        generated: tokens written, stop tokens included; the first of each text comes out of its prompt.
        tokens: prompt tokens that were computed, and written tokens that were read again to write the next.
        prefill: the first of these.
        reused: prompt tokens that were not computed again.
        padded: rows of filler.
        flops: two for each multiply-add that was executed.
    """

    steps: int = 0
    calls: int = 0
    generated: int = 0
    tokens: int = 0
    prefill: int = 0
    reused: int = 0
    padded: int = 0
    flops: int = 0

    @property
    def amounts(self) -> dict[str, int]:
        """What it adds to a bill, under the names of `rerank.cost.UNITS`."""
        return {
            "calls": self.calls,
            "tokens_real": self.tokens,
            "tokens_padded": self.padded,
            "tokens_reused": self.reused,
            "tokens_generated": self.generated,
            "flops": self.flops,
        }


@dataclass(frozen=True)
class Generated:
    """A text, or what went wrong with it, for each request; and what they took."""

    texts: list[Outcome]
    cost: GenerationCost


def check(index: int, request: Request, path: Sequence[Ids], limits: Limits, room: int, *, decodes: bool) -> None:
    """Refuse what cannot be written, before any work is done.

    Raises:
        InputError: naming the request.
    """
    who = f"request {index}"
    length = sum(map(len, path))
    if request.max_tokens < 1:
        raise InputError(f"{who}: max_tokens={request.max_tokens}; at least 1 must be allowed")
    if length + request.max_tokens > limits.context:
        raise InputError(
            f"{who}: a prompt of {length} tokens and max_tokens={request.max_tokens} exceed the {limits.context} "
            f"tokens that this {limits.name} reads; shorten its documents or write less"
        )
    if length + request.max_tokens > room:
        raise InputError(
            f"{who}: a prompt of {length} tokens and max_tokens={request.max_tokens} never fit into room={room}; "
            "allow more room or write less"
        )
    if not math.isfinite(request.temperature) or request.temperature < 0 or not 0 < request.top_p <= 1:
        raise InputError(
            f"{who}: temperature={request.temperature} and top_p={request.top_p}; "
            "choose a temperature from 0, and top_p above 0 and at most 1"
        )
    if min(request.seed, request.draw) < 0:
        raise InputError(f"{who}: seed={request.seed} and draw={request.draw}; neither may be below 0")
    if isinstance(request.stop, str) or not all(request.stop):
        raise InputError(f"{who}: stop={request.stop!r}; give a tuple of strings, none of them empty")
    if request.stop and not decodes:
        raise InputError(f"{who}: stop={request.stop!r}, but the writer was given no tokenizer to decode with")
    for what, ids in (("stop_ids", request.stop_ids or None), ("allowed", request.allowed)):
        if ids is not None and not callable(ids):
            limits.check_ids(f"{who}: {what}", list(ids))
