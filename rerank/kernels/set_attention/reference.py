"""Attention within each document and to the other documents' interaction tokens: the definition."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["first_token_set_attention", "set_attention"]


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
    seen = _seen(cu_seqlens.tolist(), cu_sets.tolist(), interaction)
    queries = (q[start:end] for start, end in pairwise(cu_seqlens.tolist()))
    return torch.cat([_attend(part, k, v, rows, scale) for part, rows in zip(queries, seen, strict=True)])


def first_token_set_attention(
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
    """The same of the first token of each document alone: all that a last layer must give.

    Args:
        q: [docs, heads, dim].
        k, v, cu_seqlens, longest, cu_sets, interaction, scale: as for `set_attention`.

    Returns:
        [docs, heads, dim] in q's dtype, computed in float32.
    """
    del longest
    seen = _seen(cu_seqlens.tolist(), cu_sets.tolist(), interaction)
    return torch.cat([_attend(q[doc : doc + 1], k, v, rows, scale) for doc, rows in enumerate(seen)])


def _seen(ends: list[int], sets: list[int], interaction: int) -> list[list[int]]:
    """The rows of keys that each document sees."""
    seen = []
    for first, last in pairwise(sets):
        for doc in range(first, last):
            others = [ends[other] + interaction for other in range(first, last) if other != doc]
            ended = [ends[other + 1] for other in range(first, last) if other != doc]
            there = [row for row, end in zip(others, ended, strict=True) if row < end]
            seen.append([*range(ends[doc], ends[doc + 1]), *there])
    return seen


def _attend(q: Tensor, k: Tensor, v: Tensor, rows: list[int], scale: float | None) -> Tensor:
    group = q.shape[1] // k.shape[1]
    keys, values = (part[rows].float().repeat_interleave(group, 1) for part in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.float(), keys) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), values).to(q.dtype)
