"""What losses over padded lists have in common: padding out of the way, pairs, ranks, distributions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "Gain",
    "approximate_ranks",
    "gains_of",
    "ideal",
    "log_shares",
    "mean",
    "pair_mean",
    "pairs",
    "places",
    "positives",
    "present",
]

Gain = Literal["linear", "exponential"]
"""What a grade is worth: itself, as in trec_eval's nDCG, or 2 ** grade - 1."""


def present(values: Tensor, mask: Tensor) -> Tensor:
    """In at least float32, with zeros for padding: a NaN that is masked later would still have a NaN gradient."""
    return values.to(torch.promote_types(values.dtype, torch.float32)).masked_fill(~mask, 0.0)


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """Over each list's documents: [queries, docs] -> [queries]; 0 for an empty list."""
    return values.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def pairs(relevance: Tensor, mask: Tensor) -> Tensor:
    """Whether i should be ranked before j: bool [queries, docs (i), docs (j)]."""
    return (relevance[:, :, None] > relevance[:, None, :]) & mask[:, :, None] & mask[:, None, :]


def pair_mean(values: Tensor, wanted: Tensor) -> Tensor:
    """Over each list's pairs: [queries, docs, docs] -> [queries]; 0 for a list without any."""
    return values.masked_fill(~wanted, 0.0).sum((1, 2)) / wanted.sum((1, 2)).clamp(min=1)


def log_shares(scores: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax over each list's documents; what stands at padding is finite and means nothing."""
    lowest = torch.finfo(torch.promote_types(scores.dtype, torch.float32)).min / 2  # not -inf: its gradient is NaN
    return (present(scores, mask) / temperature).masked_fill(~mask, lowest).log_softmax(-1)


def positives(labels: Tensor, mask: Tensor) -> Tensor:
    """Documents that are labelled relevant at all: bool [queries, docs]."""
    return (labels > 0) & mask


def places(values: Tensor, mask: Tensor) -> Tensor:
    """Ranks from 1, each its own, equal values in the order given; padding comes last: [queries, docs]."""
    order = values.masked_fill(~mask, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
    return 1.0 + order.argsort(-1).to(values.dtype)


def approximate_ranks(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """1 + the sum over others of sigmoid((score_j - score_i) / τ): differentiable ranks (Qin et al., 2010)."""
    ahead = ((scores[:, None, :] - scores[:, :, None]) / temperature).sigmoid()
    return 0.5 + ahead.masked_fill(~mask[:, None, :], 0.0).sum(-1)  # 0.5: the document itself is one of them


def gains_of(relevance: Tensor, mask: Tensor, gain: Gain) -> Tensor:
    """What each document is worth; 0 for padding."""
    grades = present(relevance, mask)
    return grades if gain == "linear" else torch.exp2(grades) - 1.0


def ideal(gains: Tensor, mask: Tensor) -> Tensor:
    """1 / the DCG of the best order: [queries, 1]; 0 where nothing is a gain, which makes the list weigh nothing."""
    best = (gains / torch.log2(1.0 + places(gains, mask))).sum(-1, keepdim=True)
    return torch.where(best > 0, 1 / best.clamp(min=torch.finfo(best.dtype).tiny), 0.0)
