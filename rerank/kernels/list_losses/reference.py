"""Losses over a list of documents, in plain torch. This is the definition; `triton.py` never holds the pairs.

All take padded lists and give one loss a list, so that whoever trains decides how lists weigh. Padding changes neither
value nor gradient, whatever it holds. They compute in float32, or in float64 when given that.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["Weighting", "lambdarank", "listmle", "ranknet"]

Weighting = Literal["none", "reciprocal", "ndcg"]
"""What a pair weighs in RankNet."""


def ranknet(scores: Tensor, relevance: Tensor, mask: Tensor, *, weighting: Weighting = "none") -> Tensor:
    """How often, and how far, a less relevant document is scored above a more relevant one.

    The mean over a list's pairs with relevance_i > relevance_j of weight_ij * log(1 + exp(score_j - score_i)), after
    Burges et al. (2005). It is divided by the number of pairs, not by their weights, as in FIRST
    (https://arxiv.org/abs/2406.15657).

    Args:
        scores: the student's, float [queries, docs]; gradients flow here alone.
        relevance: labels or a teacher's scores, higher is better, [queries, docs]. Equal ones make no pair; when there
            is only a ranking, give the negative ranks.
        mask: bool [queries, docs]; False is padding.
        weighting: with ranks by relevance, from 1, equal relevances sharing the best rank, a pair weighs
            "none": 1. "reciprocal": 1 / (rank_i + rank_j), as in FIRST. "ndcg": what swapping i and j would cost in
            nDCG if the documents stood at those ranks; relevances are then gains, at least 0, as in `lambdarank`.

    Returns:
        float32 [queries], in nats; 0 for a list without pairs.
    """
    scores, relevance = _filled(scores, relevance, mask)
    pairs = _pairs(relevance, mask)
    if weighting == "none":
        weights = torch.ones_like(scores)[:, :, None]
    else:
        ranks = _ranks(relevance, mask)
        weights = 1 / (ranks[:, :, None] + ranks[:, None, :])
        if weighting == "ndcg":
            weights = _swap_costs(relevance, ranks, mask)
    return _pair_losses(scores, pairs, weights).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)


def lambdarank(scores: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """RankNet in which a pair weighs what swapping its documents would change nDCG now, in the student's own order.

    The sum over pairs with relevance_i > relevance_j of |ΔnDCG_ij| * log(1 + exp(score_j - score_i)), whose gradients
    are LambdaRank's (Burges, 2010). The weights are taken as constants.

    Args:
        scores: the student's, float [queries, docs]; gradients flow here alone. Equal ones rank in the order given.
        relevance: the gains, at least 0, [queries, docs]; a gain is what trec_eval's nDCG counts, the grade itself. For
            exponential gains give 2 ** grade - 1.
        mask: bool [queries, docs]; False is padding.

    Returns:
        float32 [queries]; 0 for a list without pairs.
    """
    scores, relevance = _filled(scores, relevance, mask)
    weights = _swap_costs(relevance, _places(scores.detach(), mask), mask)
    return _pair_losses(scores, _pairs(relevance, mask), weights).sum((1, 2))


def listmle(scores: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """How unlikely the true order is when documents are drawn one by one in proportion to exp(score).

    The sum over ranks k of logsumexp(scores ranked k or worse) - score ranked k (Xia et al., 2008).

    Args:
        scores: the student's, float [queries, docs]; gradients flow here alone.
        relevance: gives the true order, higher first, [queries, docs]; equal ones in the order given.
        mask: bool [queries, docs]; False is padding.

    Returns:
        float32 [queries], in nats; 0 for a list of one.
    """
    scores, relevance = _filled(scores, relevance, mask)
    order = relevance.masked_fill(~mask, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
    present = mask.gather(-1, order)  # padding comes last, and weighs nothing in the tails before it
    nothing = torch.finfo(scores.dtype).min / 2  # not -inf, whose gradient would be NaN
    ranked = scores.gather(-1, order).masked_fill(~present, nothing)
    tails = ranked.flip(-1).logcumsumexp(-1).flip(-1)
    return torch.where(present, tails - ranked, 0.0).sum(-1)


def _filled(scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both in at least float32, with zeros for padding: a NaN that is masked later still has a NaN gradient."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.to(wide).masked_fill(~mask, 0.0), relevance.to(wide).masked_fill(~mask, 0.0)


def _pairs(relevance: Tensor, mask: Tensor) -> Tensor:
    """Whether i should be ranked before j: bool [queries, docs (i), docs (j)]."""
    return (relevance[:, :, None] > relevance[:, None, :]) & mask[:, :, None] & mask[:, None, :]


def _pair_losses(scores: Tensor, pairs: Tensor, weights: Tensor) -> Tensor:
    return (weights * softplus(scores[:, None, :] - scores[:, :, None])).masked_fill(~pairs, 0.0)


def _ranks(relevance: Tensor, mask: Tensor) -> Tensor:
    """From 1; equal relevances share the best rank. Padding gets a rank that nobody reads."""
    better = (relevance[:, None, :] > relevance[:, :, None]) & mask[:, None, :]
    return 1.0 + better.sum(-1, dtype=relevance.dtype)


def _places(values: Tensor, mask: Tensor) -> Tensor:
    """From 1; each its own, equal values in the order given. Padding comes last."""
    order = values.masked_fill(~mask, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
    return 1.0 + order.argsort(-1).to(values.dtype)


def _swap_costs(gains: Tensor, ranks: Tensor, mask: Tensor) -> Tensor:
    """|ΔnDCG| of swapping i and j where they stand: [queries, docs, docs]; 0 when nothing in the list is a gain."""
    ideal = (gains / torch.log2(1.0 + _places(gains, mask))).sum(-1)  # the gains of padding are 0
    discounts = 1 / torch.log2(1.0 + ranks)
    costs = (gains[:, :, None] - gains[:, None, :]).abs() * (discounts[:, :, None] - discounts[:, None, :]).abs()
    return torch.where(ideal > 0, 1 / ideal.clamp(min=torch.finfo(ideal.dtype).tiny), 0.0)[:, None, None] * costs
