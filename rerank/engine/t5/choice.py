"""Which token is written next: the likeliest of those allowed, or one drawn by chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rerank.errors import InputError

__all__ = ["Allowed", "Sampling", "choose"]

Allowed = Sequence[int] | Callable[[int, Sequence[int]], Sequence[int]]
"""The only ids that may be written: the same for all, or (index of the request, ids it has written) -> ids."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        seeds: one for each request; the same request with the same seed is answered alike whatever its neighbours.
        temperature: what logits are divided by, above 0; 1 is the model's own distribution.
        top_p: draw among the likeliest tokens that have this much probability together, above 0 and up to 1.
        top_k: draw among so many of the likeliest tokens, before `top_p` is looked at; 0 for all.

    Raises:
        InputError: when temperature, top_p or top_k is out of its range.
    """

    seeds: Sequence[int]
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"temperature={self.temperature} must be above 0; for the likeliest token, do not sample")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p={self.top_p} must be above 0 and at most 1")
        if self.top_k < 0:
            raise InputError(f"top_k={self.top_k} must be at least 1, or 0 for all tokens")

    def dice(self, index: int) -> random.Random:
        """The chances of one request."""
        return random.Random(self.seeds[index])


def choose(logits: Tensor, sampling: Sampling | None, chances: Sequence[float]) -> Tensor:
    """The column that is chosen in each row: [rows, choices] -> [rows]. Of equal logits the first column is taken.

    Args:
        logits: float32.
        sampling: None takes the largest.
        chances: for each row a number from 0 to below 1, which decides what is drawn.
    """
    if sampling is None:
        return logits.argmax(-1)
    share = (logits.double() / sampling.temperature).softmax(-1)
    share, order = torch.sort(share, dim=-1, descending=True, stable=True)
    if sampling.top_k:
        share[:, sampling.top_k :] = 0.0
        share /= share.sum(-1, keepdim=True)
    before = share.cumsum(-1) - share  # probability of all that are likelier: the first is always kept
    kept = share.masked_fill(before >= sampling.top_p, 0.0)
    reached = kept.cumsum(-1)
    wanted = torch.tensor(chances, dtype=torch.float64, device=logits.device)[:, None] * reached[:, -1:]
    place = (reached <= wanted).sum(-1, keepdim=True).clamp(max=logits.shape[1] - 1)
    chosen: Tensor = order.gather(-1, place)[:, 0]
    return chosen
