"""What a SPLADE head computes. This is the definition; `triton.py` never holds the [tokens, vocab] logits."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["splade_pool"]


def splade_pool(
    hidden: Tensor,
    cu_seqlens: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    pooling: Literal["max", "sum"] = "max",
) -> Tensor:
    """How much each term of the vocabulary weighs in each text.

    The max over a text's tokens of log(1 + relu(logit)): SPLADE v2 and after (Formal et al., 2021,
    https://arxiv.org/abs/2109.10086); the sum over them is version 1 (https://arxiv.org/abs/2107.05720).

    Args:
        hidden: what the head's transform gives for each token, texts one after the other, float [tokens, dim].
        cu_seqlens: where each text begins, and where the last ends, integer [texts + 1], from 0 to tokens.
        weight: the output head, float [vocab, dim].
        bias: of the output head, float [vocab].
        pooling: "max" or "sum".

    Returns:
        float32 [texts, vocab], at least 0; a text without tokens has 0 everywhere. Among equal logits of a maximum the
        first token gets the gradient.
    """
    texts = hidden.float().split(cu_seqlens.diff().tolist())
    pooled = [_pool(text, weight.float(), bias, pooling) for text in texts]
    return torch.stack(pooled) if pooled else weight.new_zeros(0, len(weight), dtype=torch.float32)


def _pool(text: Tensor, weight: Tensor, bias: Tensor | None, pooling: str) -> Tensor:
    """[tokens, dim], [vocab, dim] -> [vocab]"""
    logits = text @ weight.T if bias is None else text @ weight.T + bias.float()
    worth = torch.log1p(logits.relu())
    if pooling == "sum" or not len(text):
        return worth.sum(0)
    return worth.max(0).values
