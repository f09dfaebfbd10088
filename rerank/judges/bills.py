"""What a batch of questions was, what came of it, and who pays for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from rerank.engine.flops_estimate import Shape, estimated_flops
from rerank.engine.texts.prompt_tokens import Prompt
from rerank.questions import Answer, Bill, Question

__all__ = ["Asked", "Given", "Work", "charge"]


@dataclass(frozen=True, slots=True)
class Work:
    """What a call took; what they are stands in `rerank.cost.UNITS`."""

    tokens: int
    padded: int
    flops: int
    calls: int = 1
    reused: int = 0

    @classmethod
    def of(cls, cost: Any) -> Work:
        """What a call of the causal engine took."""
        return cls(cost.tokens, cost.padded, cost.flops, cost.calls, cost.reused)

    @classmethod
    def total(cls, works: Iterable[Work]) -> Work:
        """What several calls took together."""
        columns = [(work.tokens, work.padded, work.flops, work.calls, work.reused) for work in works]
        return cls(*(sum(column) for column in zip(*columns, strict=True)))


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the model reads it."""

    question: Question
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Given:
    """Answers to a batch of questions, or what went wrong with one; what they took; tokens written for each."""

    answers: Sequence[Answer | Exception]
    work: Work
    written: Sequence[int] = ()


def charge(bill: Bill, asked: Sequence[Asked], given: Given, *, seconds: float, shape: Shape | None) -> None:
    """Let each query pay for its share of the tokens; calls and filler are charged to the first one.

    Args:
        bill: of the scheduler.
        asked, given: a batch and what came of it.
        seconds: that it took.
        shape: of the model, for the closed form; None where its config does not tell.
    """
    work, written = given.work, given.written or [0] * len(asked)
    bill.charge(asked[0].question.query.query_id, calls=work.calls, tokens_padded=work.padded)
    weights = [len(each.prompt) + count for each, count in zip(asked, written, strict=True)]
    shares = zip(*(_split(total, weights) for total in (work.tokens, work.reused, work.flops)), strict=True)
    for each, count, weight, (tokens, reused, flops) in zip(asked, written, weights, shares, strict=True):
        amounts: dict[str, float] = {"tokens_real": tokens, "flops": flops, **each.prompt.amounts}
        amounts["seconds"] = seconds * weight / sum(weights)
        if reused:
            amounts["tokens_reused"] = reused
        if count:
            amounts["tokens_generated"] = count
        if shape is not None:
            decoded = max(count, 1) if shape.encoder_decoder else count
            amounts["flops_estimated"] = _estimated(shape, each.prompt, decoded)
        bill.charge(each.question.query.query_id, **amounts)


def _estimated(shape: Shape, prompt: Prompt, written: int) -> int:
    """The closed form; texts that are fused are read one by one, and what is written looks at all of them."""
    reading = sum(estimated_flops(shape, len(text)) for text in prompt.texts)
    return reading + estimated_flops(shape, len(prompt), written) - estimated_flops(shape, len(prompt))


def _split(total: int, weights: Sequence[int]) -> list[int]:
    """Whole shares that add up to the total."""
    ends = [total * end // sum(weights) for end in accumulate(weights, initial=0)]
    return [end - start for start, end in pairwise(ends)]
