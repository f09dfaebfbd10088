"""Losses over an order that is decoded step by step, out of what is left.

At step k the model has read the first k - 1 documents of the true order, and gives every document a logit; those it has
read are no candidates any more. All give one loss a list, float32 (float64 when given that) [lists], and do not change
with padding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses.masked import log_shares, present

__all__ = ["pe_rank", "sequential_kl", "sequential_mle"]


def sequential_mle(logits: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """How unlikely the true order is when each document is drawn from those that are left.

    The sum over steps of -log softmax over what is left (https://arxiv.org/abs/2406.14848). Where a document has the
    same logit at every step, it is `listmle`.

    Args:
        logits: at each step of each document, float [lists, steps, docs], with as many steps as documents; gradients
            flow here.
        relevance: gives the true order, higher first, [lists, docs]; equal ones in the order given.
        mask: bool [lists, docs]; False is padding. A list's steps are the first, as many as it has documents.

    Returns:
        [lists], in nats; 0 for a list of one.
    """
    order, left = _left(relevance, mask)
    chosen = log_shares(logits, left).gather(-1, order[..., None]).squeeze(-1)  # [lists, steps]
    return -chosen.masked_fill(~left.any(-1), 0.0).sum(-1)


def sequential_kl(logits: Tensor, teacher_logits: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """How far two decodings are apart: the sum over steps of KL(softmax(teacher) ‖ softmax(logits)) over what is left.

    Args:
        logits: float [lists, steps, docs]; gradients flow here, and into the teacher's, as in the published code.
        teacher_logits: of the decoding that sees more, float [lists, steps, docs].
        relevance, mask: as of `sequential_mle`.

    Returns:
        [lists], in nats; 0 when both agree.
    """
    _, left = _left(relevance, mask)
    student, teacher = log_shares(logits, left), log_shares(teacher_logits, left)
    return (teacher.exp() * (teacher - student)).masked_fill(~left, 0.0).sum((1, 2))


def pe_rank(
    logits: Tensor,
    full_logits: Tensor,
    relevance: Tensor,
    mask: Tensor,
    *,
    contents: float = 1.0,
    kl: float = 0.2,
) -> Tensor:
    """PE-Rank's second stage (https://arxiv.org/abs/2406.14848).

    `sequential_mle` of what was read as vectors alone, and of what was read as vectors and words, and how far the
    first is from the second (`sequential_kl`).

    Args:
        logits: behind a prompt in which passages are vectors alone, float [lists, steps, docs].
        full_logits: behind one that has their words as well, the same shape. Gradients flow into both.
        relevance, mask: as of `sequential_mle`.
        contents: weight of the loss over `full_logits`.
        kl: weight of the distance.

    Returns:
        [lists].
    """
    alone, full = (sequential_mle(each, relevance, mask) for each in (logits, full_logits))
    return alone + contents * full + kl * sequential_kl(logits, full_logits, relevance, mask)


def _left(relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The documents in their true order, padding last, [lists, docs]; and which are left at each step, [lists, steps,
    docs]."""
    ranked = present(relevance, mask).masked_fill(~mask, -torch.inf)
    order = ranked.sort(dim=-1, descending=True, stable=True).indices
    places = order.argsort(-1)
    steps = torch.arange(mask.shape[1], device=mask.device)
    return order, (places[:, None, :] >= steps[:, None]) & mask[:, None, :]
