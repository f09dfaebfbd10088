"""What it is to read an output head at a few rows of the vocabulary: the definition. The other files are faster.

A reranker that asks for "true" or "false" needs two logits of 32,000 (or 20 of 250,000 for the letters of a window), so
only those rows of the head are read. The likelihood of a query needs every row, but one number a token.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["capped", "head_logits", "target_logits", "token_log_probs"]


def target_logits(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The logits of a few target tokens, and their log-softmax over these targets alone.

    Args:
        hidden: the last hidden states of the positions that answer, float [rows, dim].
        weight: the output head, float [vocab, dim].
        targets: token ids below vocab, integer [targets]; may repeat. On a GPU nobody looks whether they are, because
            looking would wait for the device: the logit of one that is not is NaN there.
        bias: of the output head, float [vocab].
        scale: multiplies the hidden states; dim ** -0.5 for a T5 whose head is its embedding, 1 for all others.
        softcap: the c of c * tanh(logit / c), as in Gemma 2; above 0.

    Returns:
        Raw logits and log-probabilities (in nats), both float32 [rows, targets].
    """
    chosen = None if bias is None else bias[targets]
    logits = head_logits(hidden, weight[targets], chosen, scale, softcap)
    return logits, logits.log_softmax(-1)


def token_log_probs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
) -> Tensor:
    """The log-probability, over the whole vocabulary, of one chosen token a row: what query likelihood adds up.

    Args:
        hidden: the hidden states that predict the tokens, float [rows, dim].
        weight: the output head, float [vocab, dim].
        targets: the token whose likelihood is asked, integer [rows].
        bias, scale, softcap: as in `target_logits`.

    Returns:
        float32 [rows], in nats, at most 0.
    """
    logits = head_logits(hidden, weight, bias, scale, softcap)
    return logits.log_softmax(-1).gather(-1, targets.long()[:, None])[:, 0]


def head_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    """What an output head says of each row: float32 [rows, vocab]."""
    logits = (hidden.float() @ weight.float().T) * scale
    return capped(logits if bias is None else logits + bias.float(), softcap)


def capped(logits: Tensor, softcap: float | None) -> Tensor:
    """Logits held softly within ±softcap."""
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)
