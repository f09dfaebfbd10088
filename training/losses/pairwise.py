"""Losses over pairs of a list's documents. Adding a constant to all of a list's scores changes none of them.

All give one loss a list, float32 (float64 when given that) [queries], 0 for a list without pairs, and do not change
with padding.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rerank.kernels import list_losses
from rerank.kernels.list_losses.reference import Weighting
from rerank.kernels.op import Op
from training.losses.masked import Gain, gains_of, ideal, pair_mean, pairs, places, positives, present

__all__ = [
    "Scheme",
    "comparison",
    "hinge",
    "lambdaloss",
    "lambdarank",
    "margin_mse",
    "novelty_ranknet",
    "pair_logistic",
    "preference_logistic",
    "provided",
    "ranknet",
]

Scheme = Literal["ndcg1", "ndcg2", "ndcg2++", "lambdarank"]
"""What a pair weighs in LambdaLoss."""


def provided(op: Op, fused: bool) -> AbstractContextManager[None]:
    """The op by its Triton kernel, or by whatever it picks itself."""
    return op.using("triton") if fused else nullcontext()


def ranknet(
    scores: Tensor, relevance: Tensor, mask: Tensor, *, weighting: Weighting = "none", fused: bool = False
) -> Tensor:
    """How often, and how far, a less relevant document is scored above a more relevant one (Burges et al., 2005).

    The mean over pairs with relevance_i > relevance_j of weight_ij log(1 + exp(s_j - s_i)), divided by the number of
    pairs and not by their weights.

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        relevance: labels, a teacher's scores, or negative ranks: higher is better, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        weighting: "none"; "reciprocal", 1 / (rank_i + rank_j), as in FIRST (https://arxiv.org/abs/2406.15657); "ndcg",
            what swapping both would cost in nDCG, relevances then being gains, at least 0.
        fused: by the Triton kernel, which wants CUDA and at most 128 documents.

    Returns:
        [queries], in nats.
    """
    with provided(list_losses.ranknet, fused):
        losses: Tensor = list_losses.ranknet(scores, relevance, mask, weighting=weighting)
    return losses


def novelty_ranknet(scores: Tensor, relevance: Tensor, mask: Tensor, *, groups: Tensor, fused: bool = False) -> Tensor:
    """RankNet that keeps the best of each group of duplicates and puts the others below all documents.

    Set-Encoder's second stage, for novelty (https://arxiv.org/abs/2404.06912, DuplicateAwareRankNet in
    https://github.com/webis-de/set-encoder). Which is the best the student says: the one that it scores highest gets
    the highest relevance of its group, and the others less than any document has. Equal scores are all the best.

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        relevance: a teacher's order as negative ranks, or anything else of which higher is better, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        groups: whole numbers that duplicates share, [queries, docs].
        fused: as of `ranknet`.

    Returns:
        [queries], in nats: the mean over pairs.
    """
    found, relevance = present(scores.detach(), mask), present(relevance, mask)
    same = (groups[:, :, None] == groups[:, None, :]) & mask[:, None, :]
    best = found[:, None, :].masked_fill(~same, -torch.inf).amax(-1)
    highest = relevance[:, None, :].masked_fill(~same, -torch.inf).amax(-1)
    below = relevance.masked_fill(~mask, torch.inf).amin(-1, keepdim=True) - 1.0
    target = torch.where(found >= best, highest, below).masked_fill(~mask, 0.0)
    return ranknet(scores, target, mask, fused=fused)


def lambdarank(scores: Tensor, relevance: Tensor, mask: Tensor, *, fused: bool = False) -> Tensor:
    """RankNet in which a pair weighs what swapping it would change nDCG now, in the student's order (Burges, 2010).

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        relevance: gains, at least 0, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        fused: by the Triton kernel, which wants CUDA and at most 128 documents.

    Returns:
        [queries]: the sum over pairs, in nats.
    """
    with provided(list_losses.lambdarank, fused):
        losses: Tensor = list_losses.lambdarank(scores, relevance, mask)
    return losses


def lambdaloss(
    scores: Tensor,
    relevance: Tensor,
    mask: Tensor,
    *,
    scheme: Scheme = "ndcg2++",
    gain: Gain = "exponential",
    sigma: float = 1.0,
    mu: float = 10.0,
) -> Tensor:
    """The LambdaLoss framework: bounds of nDCG that are tightened where the student stands (Wang et al., 2018).

    The sum over pairs of weight_ij log2(1 + exp(-σ (s_i - s_j))), with gains G divided by the ideal DCG, discounts
    D(r) = log2(1 + r), ranks r in the student's present order, taken as constants, and

    - ndcg1: G_i / D(r_i), over all ordered pairs;
    - ndcg2: δ_ij |G_i - G_j|, δ_ij = |1 / D(|r_i - r_j|) - 1 / D(|r_i - r_j| + 1)|, over relevance_i > relevance_j;
    - lambdarank: ρ_ij |G_i - G_j|, ρ_ij = |1 / D(r_i) - 1 / D(r_j)|, over the same;
    - ndcg2++: (ρ_ij + μ δ_ij) |G_i - G_j|, over the same.

    https://dl.acm.org/doi/10.1145/3269206.3271784

    Args:
        scores: float [queries, docs]; gradients flow here alone. Equal ones rank in the order given.
        relevance: grades, at least 0, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        scheme: which of the four.
        gain: 2 ** grade - 1 as in the paper, or the grade itself as in trec_eval.
        sigma: steepness, above 0.
        mu: weight of δ beside ρ.

    Returns:
        [queries], in bits.
    """
    scores, relevance = present(scores, mask), present(relevance, mask)
    gains = gains_of(relevance, mask, gain)
    weights = _lambda_weights(scores.detach(), gains * ideal(gains, mask), mask, scheme, mu)
    both = mask[:, :, None] & mask[:, None, :]
    itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    wanted = both & ~itself if scheme == "ndcg1" else pairs(relevance, mask)
    losses = weights * softplus(-sigma * (scores[:, :, None] - scores[:, None, :])) / torch.log(scores.new_tensor(2.0))
    return losses.masked_fill(~wanted, 0.0).sum((1, 2))


def _lambda_weights(scores: Tensor, gains: Tensor, mask: Tensor, scheme: Scheme, mu: float) -> Tensor:
    ranks = places(scores, mask)
    discounts = 1 / torch.log2(1.0 + ranks)
    if scheme == "ndcg1":
        return (gains * discounts)[:, :, None]
    apart = (ranks[:, :, None] - ranks[:, None, :]).abs()
    rho = (discounts[:, :, None] - discounts[:, None, :]).abs()
    delta = 1 / torch.log2(1.0 + apart.clamp(min=1.0)) - 1 / torch.log2(2.0 + apart)
    chosen = {"ndcg2": delta, "lambdarank": rho, "ndcg2++": rho + mu * delta}[scheme]
    return chosen * (gains[:, :, None] - gains[:, None, :]).abs()


def margin_mse(scores: Tensor, teacher_scores: Tensor, mask: Tensor, *, relevance: Tensor | None = None) -> Tensor:
    """How far margins between documents are from the teacher's (Hofstätter et al., https://arxiv.org/abs/2010.02666).

    The mean over pairs of ((s_i - s_j) - (t_i - t_j))²: margins alone, so that the student's scale has its own zero.

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        teacher_scores: [queries, docs].
        mask: bool [queries, docs]; False is padding.
        relevance: pairs are then each relevant document with each other one, [queries, docs]; None: all pairs.

    Returns:
        [queries]; 0 when all margins agree.
    """
    gaps = present(scores, mask) - present(teacher_scores, mask)
    if relevance is None:
        wanted = mask[:, :, None] & mask[:, None, :]
        wanted = wanted & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    else:
        relevant = positives(relevance, mask)
        wanted = relevant[:, :, None] & (mask & ~relevant)[:, None, :]
    return pair_mean((gaps[:, :, None] - gaps[:, None, :]).square(), wanted)


def pair_logistic(scores: Tensor, relevance: Tensor, mask: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """RankT5's pairwise loss: the sum over pairs with relevance_i > relevance_j of log(1 + exp(s_j - s_i)).

    https://arxiv.org/abs/2210.10634

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        relevance: higher is better, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        weights: what each pair's loss is multiplied by, [queries, docs (i), docs (j)].

    Returns:
        [queries], in nats.
    """
    scores, relevance = present(scores, mask), present(relevance, mask)
    losses = softplus(scores[:, None, :] - scores[:, :, None])
    losses = losses if weights is None else weights * losses
    return losses.masked_fill(~pairs(relevance, mask), 0.0).sum((1, 2))


def preference_logistic(scores: Tensor, preferences: Tensor, mask: Tensor) -> Tensor:
    """Distils pairs that a pairwise teacher has judged (https://arxiv.org/abs/2507.04820).

    The mean over judged pairs of -y_ij log σ(s_i - s_j) - (1 - y_ij) log σ(s_j - s_i).

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        preferences: how surely i beats j, from 0 to 1 and .5 for a tie, [queries, docs (i), docs (j)]; NaN for pairs
            that were not judged.
        mask: bool [queries, docs]; False is padding.

    Returns:
        [queries], in nats.
    """
    scores = present(scores, mask)
    judged = ~preferences.isnan() & mask[:, :, None] & mask[:, None, :]
    wins = present(preferences, judged)
    ahead = scores[:, :, None] - scores[:, None, :]
    return pair_mean(softplus(ahead) - wins * ahead, judged)


def comparison(logits: Tensor, preferences: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of a model that compares two documents in one order, as duoT5 (https://arxiv.org/abs/2101.05667).

    The mean over judged pairs of -y_ij log σ(l_ij) - (1 - y_ij) log(1 - σ(l_ij)).

    Args:
        logits: of "i, shown first, beats j", float [queries, docs (i), docs (j)]; gradients flow here alone.
        preferences: how surely i beats j, from 0 to 1, [queries, docs, docs]; NaN for pairs that were not judged.
        mask: bool [queries, docs]; False is padding.

    Returns:
        [queries], in nats.
    """
    judged = ~preferences.isnan() & mask[:, :, None] & mask[:, None, :]
    logits, wins = present(logits, judged), present(preferences, judged)
    return pair_mean(softplus(logits) - wins * logits, judged)


def hinge(
    scores: Tensor, relevance: Tensor, mask: Tensor, *, margin: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """The mean over pairs with relevance_i > relevance_j of max(0, margin - (s_i - s_j)).

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        relevance: higher is better, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        margin: how far apart is far enough, above 0.
        weights: what each pair's loss is multiplied by, [queries, docs (i), docs (j)]; the mean is still over pairs.

    Returns:
        [queries].
    """
    scores, relevance = present(scores, mask), present(relevance, mask)
    losses = (margin - (scores[:, :, None] - scores[:, None, :])).relu()
    return pair_mean(losses if weights is None else weights * losses, pairs(relevance, mask))
