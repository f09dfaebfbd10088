"""What a causal model answered, and what it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rerank.engine.decoders.kv_pool import Run
from rerank.engine.decoders.run import Cost
from rerank.errors import JudgeError

__all__ = ["Held", "Likelihoods", "Mass", "Scored", "finite"]


@dataclass(frozen=True)
class Scored:
    """Raw logits, float32 [prompts, targets or labels] on the CPU, and what they took."""

    logits: Tensor
    cost: Cost


@dataclass(frozen=True)
class Likelihoods:
    """The log-probability of each token of each continuation, in nats, float32 [tokens] each; and what they took."""

    log_probs: list[Tensor]
    cost: Cost


@dataclass(frozen=True)
class Mass:
    """The attention that suffixes pay to a context, summed over their tokens, over heads and over layers.

    Attributes:
        tokens: float32 [suffixes, context tokens].
        segments: float32 [suffixes, context segments], the sum over the tokens of each.
        cost: what it took.
    """

    tokens: Tensor
    segments: Tensor
    cost: Cost


@dataclass(frozen=True)
class Held:
    """Prompts whose keys and values are in the pool.

    Attributes:
        hidden: of the last token of each, after the model's last norm: [prompts, dim] on the device.
        paths: where the tokens of each lie in the pool, in order. They are shared: read them, never write there.
        cost: what it took.
    """

    hidden: Tensor
    paths: list[tuple[Run, ...]]
    cost: Cost


def finite(values: Tensor, prompts: Sequence[int]) -> Tensor:
    """Values, the first axis of which is of these prompts.

    Raises:
        JudgeError: when one is no number.
    """
    finite = values.isfinite() if values.ndim == 1 else values.isfinite().all(1)
    wrong = torch.nonzero(~finite).flatten().tolist()
    if wrong:
        raise JudgeError(f"the model gave no finite number for prompt {prompts[wrong[0]]}: its weights or its dtype?")
    return values
