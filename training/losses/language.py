"""Losses over the tokens that a language model should write.

They take the log-probabilities of the target tokens and not the logits of a whole vocabulary, so that
`rerank.kernels.target_logits.token_log_probs`, which never keeps those, can give them. All give one loss a text,
float32 (float64 when given that) [texts], and do not change with padding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses.masked import mean, present
from training.losses.pairwise import ranknet

__all__ = ["first", "importance_weighted_lm", "importance_weights", "lm", "unlikelihood"]


def lm(log_probs: Tensor, mask: Tensor) -> Tensor:
    """The mean negative log-likelihood of a text's target tokens.

    Args:
        log_probs: of each target token given what is in front of it, float [texts, tokens]; gradients flow here.
        mask: bool [texts, tokens]; False is padding, or prompt.

    Returns:
        [texts], in nats a token.
    """
    return mean(-present(log_probs, mask), mask)


def importance_weights(ranks: Tensor) -> Tensor:
    """1 + 1 / log2(rank + 1) for all tokens of the identifier at that rank; 1 for others, whose rank is 0."""
    ranks = ranks.float()
    return torch.where(ranks > 0, 1.0 + 1.0 / torch.log2(ranks.clamp(min=1.0) + 1.0), 1.0)


def importance_weighted_lm(log_probs: Tensor, ranks: Tensor, mask: Tensor) -> Tensor:
    """Language modelling in which the head of the written list counts more (https://arxiv.org/abs/2412.14574).

    Each token's loss is multiplied by `importance_weights`; the sum is divided by the number of tokens, not by the
    weights.

    Args:
        log_probs: of each target token, float [texts, tokens]; gradients flow here.
        ranks: of the identifier that a token belongs to, from 1, and 0 for separators, [texts, tokens].
        mask: bool [texts, tokens]; False is padding, or prompt.

    Returns:
        [texts].
    """
    weights = importance_weights(present(ranks, mask))
    return mean(-weights * present(log_probs, mask), mask)


def first(
    log_probs: Tensor,
    token_mask: Tensor,
    letters: Tensor,
    relevance: Tensor,
    mask: Tensor,
    *,
    weight: float = 10.0,
) -> Tensor:
    """FIRST's joint loss: write the order, and rank by the logits of the first letter (https://arxiv.org/abs/2406.15657).

    `lm` + λ RankNet with weights 1 / (rank_i + rank_j), the mean over pairs.

    Args:
        log_probs: of each target token, float [lists, tokens]; gradients flow here.
        token_mask: bool [lists, tokens]; False is padding, or prompt.
        letters: logits of the documents' letters where the first letter is written, float [lists, docs]; gradients flow
            here, too.
        relevance: the true order, higher first, such as negative ranks, [lists, docs].
        mask: bool [lists, docs]; False is padding.
        weight: λ.

    Returns:
        [lists].
    """
    return lm(log_probs, token_mask) + weight * ranknet(letters, relevance, mask, weighting="reciprocal")


def unlikelihood(log_probs: Tensor, mask: Tensor) -> Tensor:
    """The mean of -log(1 - p) over tokens that should not be written (https://arxiv.org/abs/1908.04319).

    Args:
        log_probs: of each unwanted token, at most 0, float [texts, tokens]; gradients flow here.
        mask: bool [texts, tokens]; False is padding, or prompt.

    Returns:
        [texts], in nats a token.
    """
    logs = present(log_probs, mask)
    surest = -torch.finfo(logs.dtype).eps  # p = 1 would cost infinity
    return mean(-torch.log(-torch.expm1(logs.clamp(max=surest))), mask)
