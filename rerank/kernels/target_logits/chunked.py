"""The likelihood of tokens without the [rows, vocab] logits: the vocabulary goes by in chunks, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rerank.kernels.target_logits.reference import head_logits

__all__ = ["Normalise", "differentiable", "token_log_probs"]

CHUNK = 4096  # rows of the head at a time: 256 tokens make 4 MiB of logits

Normalise = Callable[[Tensor, Tensor, Tensor, "Tensor | None", float, "float | None"], "tuple[Tensor, Tensor]"]
"""(hidden, weight, targets, bias, scale, softcap) -> the targets' logits and the log-sum-exp, both float32 [rows]."""


def token_log_probs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
) -> Tensor:
    """As the reference; holds [rows, CHUNK] logits at a time instead of [rows, vocab]."""
    return differentiable(_normalise, hidden, weight, targets, bias, scale, softcap)


def differentiable(
    normalise: Normalise,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float | None,
) -> Tensor:
    """The targets' log-probabilities with a chunked backward pass, whoever computes the forward one."""
    log_probs: Tensor = _TokenLogProbs.apply(normalise, hidden, weight, targets.long(), bias, scale, softcap)
    return log_probs


def _normalise(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    chosen = torch.full(targets.shape, torch.nan, device=hidden.device)
    total = torch.full(targets.shape, -torch.inf, device=hidden.device)
    for part, inside, column in _chunks(targets, len(weight)):
        logits = head_logits(hidden, weight[part], None if bias is None else bias[part], scale, softcap)
        chosen = torch.where(inside, logits.gather(-1, column)[:, 0], chosen)
        total = torch.logaddexp(total, logits.logsumexp(-1))
    return chosen, total


def _chunks(targets: Tensor, vocab: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Chunks of the vocabulary; which targets lie in each, and in which of its columns (one that does not: any)."""
    for start in range(0, vocab, CHUNK):
        stop = min(start + CHUNK, vocab)
        inside = (targets >= start) & (targets < stop)
        yield slice(start, stop), inside, (targets - start).clamp(0, stop - start - 1)[:, None]


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, normalise: Normalise, *inputs: Any) -> Tensor:
        hidden, weight, targets, bias, *ctx.form = inputs
        chosen, total = normalise(*inputs)
        ctx.save_for_backward(hidden, weight, targets, bias, total)
        return chosen - total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of a logit is (chosen - probability); the probabilities are computed again, chunk by chunk."""
        hidden, weight, targets, bias, total = ctx.saved_tensors
        scale, softcap = ctx.form
        to_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[2] else None
        to_bias = torch.zeros_like(bias) if ctx.needs_input_grad[4] else None
        for part, inside, column in _chunks(targets, len(weight)):
            logits = head_logits(hidden, weight[part], None if bias is None else bias[part], scale, softcap)
            to_logits = -gradient[:, None] * torch.exp(logits - total[:, None])
            to_logits.scatter_add_(-1, column, torch.where(inside, gradient, 0.0)[:, None])
            if softcap is not None:
                to_logits *= 1 - (logits / softcap).square()  # tanh' = 1 - tanh², and the logits are softcap * tanh
            to_hidden.addmm_(to_logits, weight[part].float(), alpha=scale)
            if to_weight is not None:
                to_weight[part] = (to_logits.T @ hidden.float()) * scale
            if to_bias is not None:
                to_bias[part] = to_logits.sum(0)
        return None, to_hidden.to(hidden.dtype), to_weight, None, to_bias, None, None
