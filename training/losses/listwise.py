"""Losses over the distribution that softmax makes of a list's scores, and over orders drawn from it.

All give one loss a list, float32 (float64 when given that) [queries], 0 for a list that teaches nothing, and do not
change with padding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rerank.kernels import list_losses
from training.losses.masked import log_shares, positives, present
from training.losses.pairwise import provided
from training.losses.pointwise import bce

__all__ = [
    "group_ce",
    "infonce",
    "list_kl",
    "listmle",
    "listnet",
    "p_listmle",
    "poly1",
    "rcr",
    "softmax",
    "tightly_coupled",
]


def group_ce(scores: Tensor, labels: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Localised contrastive estimation: which of the group is the relevant one? (https://arxiv.org/abs/2101.08751)

    The mean over relevant documents of -log(exp(s / τ) / the sum over it and the others), where the others are those
    that are not relevant: a second relevant document is no competitor.

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        labels: above 0 is relevant, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        temperature: τ, above 0.

    Returns:
        [queries], in nats.
    """
    relevant = positives(labels, mask)
    scores = present(scores, mask) / temperature
    lowest = torch.finfo(scores.dtype).min / 2
    others = scores.masked_fill(relevant | ~mask, lowest).logsumexp(-1, keepdim=True)
    losses = torch.logaddexp(scores, others) - scores
    return _over(losses, relevant)


def infonce(scores: Tensor, labels: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Tensor:
    """The mean over relevant documents of -log softmax(scores / τ), over all of a row (van den Oord et al., 2018).

    With in-batch negatives a row has the documents of the whole batch. https://arxiv.org/abs/1807.03748

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        labels: above 0 is relevant, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        temperature: τ, above 0.

    Returns:
        [queries], in nats.
    """
    return _over(-log_shares(scores, mask, temperature), positives(labels, mask))


def softmax(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """RankT5's list loss: -Σ y_i log softmax(s)_i (https://arxiv.org/abs/2210.10634).

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        labels: at least 0; not made to add up to 1, so that a list with more relevance weighs more, [queries, docs].
        mask: bool [queries, docs]; False is padding.

    Returns:
        [queries], in nats.
    """
    return _total(-present(labels, mask) * log_shares(scores, mask), mask)


def poly1(scores: Tensor, labels: Tensor, mask: Tensor, *, epsilon: float = 1.0) -> Tensor:
    """`softmax` + ε Σ y_i (1 - softmax(s)_i): the first term of its polynomial, weighted (RankT5's Poly1).

    https://arxiv.org/abs/2204.12511

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        labels: at least 0, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        epsilon: weight of the first term.

    Returns:
        [queries].
    """
    logs, labels = log_shares(scores, mask), present(labels, mask)
    return _total(labels * (epsilon * (1.0 - logs.exp()) - logs), mask)


def listnet(scores: Tensor, relevance: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Tensor:
    """ListNet's top-one loss: -Σ softmax(t / τ)_i log softmax(s)_i (Cao et al., 2007).

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        relevance: grades or a teacher's scores, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        temperature: τ, of the target alone, above 0.

    Returns:
        [queries], in nats; the entropy of the target when both agree.
    """
    target = log_shares(relevance, mask, temperature).exp().detach()
    return _total(-target * log_shares(scores, mask), mask)


def list_kl(scores: Tensor, teacher_scores: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Tensor:
    """How far the student's ranking distribution is from the teacher's: KL(softmax(t / τ) ‖ softmax(s / τ)).

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        teacher_scores: any scale, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        temperature: τ, above 0; larger trusts the teacher's order less.

    Returns:
        [queries], in nats; 0 when both agree.
    """
    student = log_shares(scores, mask, temperature)
    teacher = log_shares(teacher_scores, mask, temperature).detach()
    return _total(teacher.exp() * (teacher - student), mask)


def tightly_coupled(
    scores: Tensor,
    teacher_scores: Tensor,
    mask: Tensor,
    *,
    relevance: Tensor,
    weight: float = 0.1,
    temperature: float = 0.25,
) -> Tensor:
    """TCT-ColBERT over the documents of a whole batch (https://arxiv.org/abs/2010.11386).

    γ · -log softmax(s) of the relevant document + (1 - γ) · KL(softmax(t / τ) ‖ softmax(s)): the temperature is the
    teacher's alone.

    Args:
        scores: products of the student's vectors, float [queries, docs]; gradients flow here alone.
        teacher_scores: ColBERT's, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        relevance: above 0 is each query's own document, [queries, docs].
        weight: γ, from 0 to 1.
        temperature: τ, above 0.

    Returns:
        [queries], in nats.
    """
    student, teacher = log_shares(scores, mask), log_shares(teacher_scores, mask, temperature).detach()
    apart = _total(teacher.exp() * (teacher - student), mask)
    return weight * infonce(scores, relevance, mask) + (1 - weight) * apart


def listmle(scores: Tensor, relevance: Tensor, mask: Tensor, *, fused: bool = False) -> Tensor:
    """How unlikely the true order is when documents are drawn in proportion to exp(score) (Xia et al., 2008).

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        relevance: gives the true order, higher first, [queries, docs]; equal ones in the order given.
        mask: bool [queries, docs]; False is padding.
        fused: by the Triton kernel, which wants CUDA and at most 128 documents.

    Returns:
        [queries], in nats.
    """
    with provided(list_losses.listmle, fused):
        losses: Tensor = list_losses.listmle(scores, relevance, mask)
    return losses


def p_listmle(scores: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """ListMLE in which the head of the list counts: rank k of n weighs α(k) = 2^(n - k) - 1 (Lan et al., 2014).

    Weights are divided by their sum, which keeps long lists finite and short ones comparable.

    Args:
        scores: float [queries, docs]; gradients flow here alone.
        relevance: gives the true order, higher first, [queries, docs]; equal ones in the order given.
        mask: bool [queries, docs]; False is padding.

    Returns:
        [queries], in nats; 0 for a list of one.
    """
    scores, relevance = present(scores, mask), present(relevance, mask)
    order = relevance.masked_fill(~mask, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
    here = mask.gather(-1, order)
    ranked = scores.gather(-1, order).masked_fill(~here, torch.finfo(scores.dtype).min / 2)
    tails = ranked.flip(-1).logcumsumexp(-1).flip(-1)
    ranks = torch.arange(1, mask.shape[1] + 1, device=mask.device, dtype=scores.dtype)
    counts = mask.sum(-1, keepdim=True).to(scores.dtype)
    weights = (torch.exp2(-ranks) - torch.exp2(-counts)).masked_fill(~here, 0.0)  # α(k) / 2^n
    total = weights.sum(-1).clamp(min=torch.finfo(scores.dtype).tiny)
    return (weights * torch.where(here, tails - ranked, 0.0)).sum(-1) / total


def rcr(scores: Tensor, labels: Tensor, mask: Tensor, *, alpha: float = 0.5) -> Tensor:
    """Regression-compatible ranking: scores that rank, and whose sigmoids are probabilities.

    (1 - α) BCE(s, y) - α Σ y_i / Σy log(σ(s_i) / Σ_j σ(s_j)); the list's part normalises sigmoids, not exponentials, so
    that both parts have their minimum at σ(s) = y (Bai et al., https://arxiv.org/abs/2211.01494).

    Args:
        scores: logits, float [queries, docs]; gradients flow here alone.
        labels: from 0 to 1, [queries, docs].
        mask: bool [queries, docs]; False is padding.
        alpha: weight of the list's part, from 0 to 1.

    Returns:
        [queries], in nats.
    """
    labels = present(labels, mask)
    logs = log_shares(logsigmoid(present(scores, mask)), mask)
    total = labels.sum(-1)
    listwise = _total(-labels * logs, mask) / total.clamp(min=torch.finfo(total.dtype).tiny)
    return (1.0 - alpha) * bce(scores, labels, mask) + alpha * listwise


def _total(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(~mask, 0.0).sum(-1)


def _over(losses: Tensor, chosen: Tensor) -> Tensor:
    return losses.masked_fill(~chosen, 0.0).sum(-1) / chosen.sum(-1).clamp(min=1)
