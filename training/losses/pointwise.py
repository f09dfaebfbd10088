"""Losses that look at one document at a time.

All give one loss a list, float32 (float64 when given that) [queries], and do not change with padding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from training.losses.masked import mean, present

__all__ = ["balanced_bce", "bce", "mse", "mse_logits"]


def bce(scores: Tensor, labels: Tensor, mask: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of sigmoid(score) with each label: RankT5's PointCE (https://arxiv.org/abs/2210.10634).

    The mean over a list's documents of -y log σ(s) - (1 - y) log(1 - σ(s)).

    Args:
        scores: logits, float [queries, docs]; gradients flow here alone.
        labels: from 0 to 1, [queries, docs]; in between where a teacher is unsure.
        mask: bool [queries, docs]; False is padding.
        weights: what each document's loss is multiplied by, [queries, docs]; the mean is still over documents.

    Returns:
        [queries], in nats.
    """
    scores, labels = present(scores, mask), present(labels, mask)
    losses = softplus(scores) - labels * scores
    return mean(losses if weights is None else weights * losses, mask)


def balanced_bce(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy in which the relevant weigh as much as the others together.

    The mean over a list's n documents of -w y log σ(s) - (1 - y) log(1 - σ(s)), w = (n - k) / k with k relevant ones.
    So Set-Encoder learns which documents a list shows twice (https://arxiv.org/abs/2404.06912): w = (n - 2) / 2 with
    one copy.

    Args:
        scores: logits, float [queries, docs]; gradients flow here alone.
        labels: above 0 is relevant, [queries, docs].
        mask: bool [queries, docs]; False is padding.

    Returns:
        [queries], in nats.
    """
    scores, relevant = present(scores, mask), (labels > 0) & mask
    count, found = mask.sum(-1, keepdim=True), relevant.sum(-1, keepdim=True)
    weight = (count - found) / found.clamp(min=1)
    return mean(torch.where(relevant, weight * softplus(-scores), softplus(scores)), mask)


def mse(scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    """The mean over a list's documents of (score - teacher's)²: the student takes over the teacher's scale.

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        teacher_scores: [queries, docs].
        mask: bool [queries, docs]; False is padding.

    Returns:
        [queries]; 0 when both agree.
    """
    return mean((present(scores, mask) - present(teacher_scores, mask)).square(), mask)


def mse_logits(logits: Tensor, teacher_logits: Tensor, mask: Tensor, *, centred: bool = False) -> Tensor:
    """InRanker: the student's logits of "false" and "true" become the teacher's (https://arxiv.org/abs/2401.06910).

    Args:
        logits: of the target words at the first decoder step, float [queries, docs, words]; gradients flow here alone.
        teacher_logits: the teacher's, [queries, docs, words].
        mask: bool [queries, docs]; False is padding.
        centred: take from the teacher's logits their mean over the words, document by document, as in InRanker's second
            stage; the student's stay as they are.

    Returns:
        [queries]: the mean over documents and words of the squared differences.
    """
    teacher = present(teacher_logits, mask[..., None])
    if centred:
        teacher = teacher - teacher.mean(-1, keepdim=True)
    return mean((present(logits, mask[..., None]) - teacher).square().mean(-1), mask)
