"""What calls of a T5 give, and what they cost."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Encoded", "Likelihood", "Read", "Scored", "Written"]


@dataclass(frozen=True)
class Scored:
    """What one decoder step gave.

    Attributes:
        logits: raw, float32 [texts or groups, targets], on the CPU.
        tokens: encoder tokens of the texts.
        padded: encoder rows that were computed for nothing.
        flops: floating-point operations that were executed, two for each multiply-add.
    """

    logits: Tensor
    tokens: int
    padded: int
    flops: int


@dataclass(frozen=True)
class Likelihood:
    """How likely continuations are.

    Attributes:
        log_probs: for each continuation the log-probability of each of its ids, float32 [ids], in nats, on the CPU.
        tokens, padded, flops: as in `Scored`.
    """

    log_probs: tuple[Tensor, ...]
    tokens: int
    padded: int
    flops: int


@dataclass(frozen=True)
class Written:
    """What the decoder wrote.

    Attributes:
        texts: the ids written for each group, after the prefix; the last is an end token if `max_tokens` was enough.
        steps: passes of the decoder.
        tokens, padded, flops: as in `Scored`.
    """

    texts: list[list[int]]
    steps: int
    tokens: int
    padded: int
    flops: int

    @property
    def generated(self) -> int:
        """Tokens written, end tokens included."""
        return sum(len(text) for text in self.texts)


@dataclass(frozen=True)
class Read:
    """How much of each text was read while something was written.

    Attributes:
        shares: for each group float32 [texts], on the CPU.
        texts, steps, tokens, padded, flops: as in `Written`.
    """

    shares: tuple[Tensor, ...]
    texts: list[list[int]]
    steps: int
    tokens: int
    padded: int
    flops: int


@dataclass(frozen=True)
class Encoded:
    """The encoder's states of some texts, for heads of one's own.

    Attributes:
        states: of all texts, one after the other: [tokens, dim], on the model's device, in its dtype.
        lengths: tokens of each text.
        tokens, padded, flops: as in `Scored`.
    """

    states: Tensor
    lengths: tuple[int, ...]
    tokens: int
    padded: int
    flops: int

    def first(self) -> Tensor:
        """The state of each text's first token: float32 [texts, dim]."""
        starts = [0, *itertools.accumulate(self.lengths)][:-1]
        return self.states[torch.tensor(starts, dtype=torch.long, device=self.states.device)].float()

    def mean(self) -> Tensor:
        """The mean state of each text: float32 [texts, dim]."""
        means = [text.float().mean(0) for text in torch.split(self.states, list(self.lengths))]
        return torch.stack(means) if means else self.first()
