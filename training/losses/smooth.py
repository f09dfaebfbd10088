"""Measures of rankings made differentiable: ranks, or sorting itself, are smoothed.

All give one loss a list, float32 (float64 when given that) [queries], and do not change with padding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses.masked import Gain, approximate_ranks, gains_of, ideal, mean, present

__all__ = ["adr_mse", "approx_ndcg", "neural_ndcg"]

TINY = 1e-10
"""Rows and columns that add up to less are padding's, and left alone."""


def adr_mse(scores: Tensor, relevance: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Approximate discounted rank MSE, of RankDistiLLM (https://arxiv.org/abs/2405.07920).

    The mean over documents of (rank - approximate rank)² / log2(1 + rank), with ranks by relevance.

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        relevance: gives the true order, higher first, [queries, docs]; equal ones share the mean of their ranks.
        mask: bool [queries, docs]; False is padding.
        temperature: τ of the approximate ranks, above 0.

    Returns:
        [queries]; near 0 when the student ranks alike with wide margins.
    """
    scores, relevance = present(scores, mask), present(relevance, mask)
    ahead = (relevance[:, None, :] > relevance[:, :, None]) & mask[:, None, :]
    level = (relevance[:, None, :] == relevance[:, :, None]) & mask[:, None, :]
    ranks = 0.5 + ahead.sum(-1) + 0.5 * level.sum(-1)
    gaps = approximate_ranks(scores, mask, temperature) - ranks
    return mean(gaps.square() / torch.log2(1.0 + ranks), mask)


def approx_ndcg(
    scores: Tensor, relevance: Tensor, mask: Tensor, *, temperature: float = 1.0, gain: Gain = "exponential"
) -> Tensor:
    """1 - nDCG with approximate ranks (Qin et al., 2010, https://doi.org/10.1007/s10791-009-9124-x).

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        relevance: grades, at least 0, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        temperature: τ of the approximate ranks, above 0; smaller is nearer to nDCG, and flatter.
        gain: 2 ** grade - 1, or the grade itself as in trec_eval.

    Returns:
        [queries], from 0 to 1; 0 for a list in which nothing is relevant.
    """
    gains = gains_of(relevance, mask, gain)
    ranks = approximate_ranks(present(scores, mask), mask, temperature)
    return _missed(gains / torch.log2(1.0 + ranks), gains, mask)


def neural_ndcg(
    scores: Tensor,
    relevance: Tensor,
    mask: Tensor,
    *,
    temperature: float = 1.0,
    gain: Gain = "exponential",
    rounds: int = 50,
) -> Tensor:
    """1 - nDCG of gains that NeuralSort's relaxed permutation sorts (https://arxiv.org/abs/2102.07831).

    Row i of the permutation is softmax(((n + 1 - 2 i) s - A) / τ) with A_j = Σ_k |s_j - s_k|; Sinkhorn's scaling makes
    its columns add up to 1, too.

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        relevance: grades, at least 0, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        temperature: τ, above 0; smaller is nearer to sorting.
        gain: 2 ** grade - 1, or the grade itself as in trec_eval.
        rounds: of Sinkhorn's scaling.

    Returns:
        [queries], from 0 to 1; 0 for a list in which nothing is relevant.
    """
    gains = gains_of(relevance, mask, gain)
    permutation = _scaled(_sorting(present(scores, mask), mask, temperature), rounds)
    ranks = torch.arange(1, mask.shape[1] + 1, device=mask.device, dtype=gains.dtype)
    placed = torch.matmul(permutation, gains[..., None])[..., 0]
    return _missed(placed / torch.log2(1.0 + ranks), gains, mask)


def _missed(discounted: Tensor, gains: Tensor, mask: Tensor) -> Tensor:
    share = ideal(gains, mask)
    return torch.where(share[:, 0] > 0, 1.0 - (discounted * share).sum(-1), 0.0)


def _sorting(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """NeuralSort: [queries, ranks, docs]; rows beyond a list's length and columns of padding are zeros."""
    both = mask[:, :, None] & mask[:, None, :]
    spread = (scores[:, :, None] - scores[:, None, :]).abs().masked_fill(~both, 0.0).sum(-1)
    ranks = torch.arange(1, mask.shape[1] + 1, device=mask.device, dtype=scores.dtype)
    counts = mask.sum(-1).to(scores.dtype)
    slopes = counts[:, None] + 1.0 - 2.0 * ranks  # [queries, ranks]
    logits = (slopes[:, :, None] * scores[:, None, :] - spread[:, None, :]) / temperature
    rows = logits.masked_fill(~mask[:, None, :], torch.finfo(scores.dtype).min / 2).softmax(-1)
    inside = (ranks <= counts[:, None])[:, :, None] & mask[:, None, :]
    return rows.masked_fill(~inside, 0.0)


def _scaled(permutation: Tensor, rounds: int) -> Tensor:
    """Sinkhorn: columns and rows are made to add up to 1 in turns."""
    for _ in range(rounds):
        for axis in (-2, -1):
            sums = permutation.sum(axis, keepdim=True)
            permutation = permutation / torch.where(sums > TINY, sums, 1.0)
    return permutation
