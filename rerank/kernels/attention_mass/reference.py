"""The attention that query tokens pay to a context: the definition, which does make the query × context matrix."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["attention_mass"]


def attention_mass(
    q: Tensor, k: Tensor, context: Tensor, spans: Tensor | None = None, *, scale: float | None = None
) -> Tensor:
    """The probability mass of one layer's attention, summed over query tokens and heads.

    Query tokens come after the context: they see all of it, and causally themselves; the softmax is over both.
    In-context reranking (Chen et al., 2024, https://arxiv.org/abs/2410.02642) sums this over layers, divides it by the
    number of query tokens, and takes from it what an empty query gets.

    Args:
        q: [query_tokens, heads, dim].
        k: [query_tokens, kv_heads, dim], the query tokens' own keys.
        context: [context_tokens, kv_heads, dim], the keys of what they are asked about.
        spans: int [docs, 2], where documents start and end in the context; None: no sum over documents.
        scale: of the scores; None: 1 / sqrt(dim).

    Returns:
        float32 [docs], or [context_tokens] when there are no spans; they sum to at most query_tokens · heads.
    """
    queries, heads, dim = q.shape
    keys = torch.cat([context, k]).float().repeat_interleave(heads // k.shape[1], 1)
    scores = torch.einsum("qhd,khd->hqk", q.float(), keys) * (dim**-0.5 if scale is None else scale)
    later = torch.ones(queries, queries, dtype=torch.bool, device=q.device).triu(1)
    scores[:, :, len(context) :].masked_fill_(later, float("-inf"))
    mass = scores.softmax(-1).sum((0, 1))[: len(context)]
    if spans is None:
        return mass
    return torch.stack([mass[start:end].sum() for start, end in spans.tolist()])
