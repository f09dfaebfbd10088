"""Attention within each document and to the other documents' interaction tokens: the definition."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["set_attention"]


def set_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    cu_sets: Tensor,
    *,
    interaction: int = 1,
    scale: float | None = None,
) -> Tensor:
    """Every token sees its own document, and of each other document of the same query one token.

    So documents know of each other and the order in which they come changes nothing (Set-Encoder, Schlatt et al.,
    2024, https://arxiv.org/abs/2404.06912). A document's own interaction token is seen once, not twice.

    Args:
        q: [tokens, heads, dim], all documents of all queries, packed.
        k, v: [tokens, kv_heads, dim].
        cu_seqlens: int32 [docs + 1], where documents start, and at last the number of tokens.
        longest: tokens of the longest document, or more; known on the host.
        cu_sets: int32 [queries + 1], where queries' documents start among the documents, and at last their number.
        interaction: the index, within a document, of the token that others see; a document too short to have one
            shows nothing to others.
        scale: of the scores; None: 1 / sqrt(dim).

    Returns:
        [tokens, heads, dim] in q's dtype, computed in float32.
    """
    del longest  # a provider's concern
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    group = q.shape[1] // k.shape[1]
    ends = cu_seqlens.tolist()
    outputs = []
    for first, last in pairwise(cu_sets.tolist()):
        for doc in range(first, last):
            own = list(range(ends[doc], ends[doc + 1]))
            others = [
                ends[other] + interaction
                for other in range(first, last)
                if other != doc and ends[other] + interaction < ends[other + 1]
            ]
            keys, values = (part[own + others].float().repeat_interleave(group, 1) for part in (k, v))
            scores = torch.einsum("qhd,khd->hqk", q[own].float(), keys) * scale
            outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
    return torch.cat(outputs).to(q.dtype)
