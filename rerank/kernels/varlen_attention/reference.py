"""Attention over packed sequences, one after the other: the definition."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["first_token_attention", "relative_buckets", "varlen_attention"]


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    *,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    cap: float | None = None,
    bias: Tensor | None = None,
    max_distance: int = 128,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention within each of several sequences that lie in one row of tokens, without padding.

    Args:
        q: [tokens, heads, dim].
        k, v: [tokens, kv_heads, dim]; every `heads / kv_heads` neighbouring heads share one (grouped queries).
        cu_seqlens: int32 [sequences + 1], where sequences start, and at last the number of tokens.
        longest: tokens of the longest sequence, or more; known on the host, so that nothing waits for the GPU.
        causal: see no later tokens.
        window: see tokens at most this far away; None: all. Mistral's `sliding_window` w is w - 1 here.
        scale: of the scores; None: 1 / sqrt(dim). T5 has 1.
        cap: c · tanh(score / c) bounds the scaled scores, as in Gemma 2.
        bias: T5's table [heads, buckets], added to the scores by `relative_buckets`.
        max_distance: from here on all distances share T5's last bucket.
        return_lse: also give the log-sum-exp of the scores, for merging with attention to other keys.

    Returns:
        [tokens, heads, dim] in q's dtype, computed in float32; and float32 [tokens, heads] when asked for.
    """
    del longest  # a provider's concern
    group = q.shape[1] // k.shape[1]
    outputs, logs = [], []
    for start, end in pairwise(cu_seqlens.tolist()):
        queries, keys, values = (part[start:end].float() for part in (q, k, v))
        keys, values = (part.repeat_interleave(group, 1) for part in (keys, values))
        scores = torch.einsum("qhd,khd->hqk", queries, keys) * (q.shape[-1] ** -0.5 if scale is None else scale)
        if cap is not None:
            scores = cap * torch.tanh(scores / cap)
        distance = _distances(end - start, q.device)
        if bias is not None:
            buckets = relative_buckets(distance, bias.shape[1], max_distance, bidirectional=not causal)
            scores = scores + bias.float()[:, buckets]
        scores = scores.masked_fill(~_visible(distance, causal, window), float("-inf"))
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
        logs.append(scores.logsumexp(-1).T)
    output = torch.cat(outputs).to(q.dtype)
    return (output, torch.cat(logs)) if return_lse else output


def first_token_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    *,
    window: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention of the first token of each of several sequences that lie in one row: all that a last layer must give.

    Args:
        q: [sequences, heads, dim].
        k, v, cu_seqlens, longest, window, scale: as for `varlen_attention`.

    Returns:
        [sequences, heads, dim] in q's dtype, computed in float32.
    """
    del longest
    group = q.shape[1] // k.shape[1]
    outputs = []
    for query, (start, end) in zip(q.float(), pairwise(cu_seqlens.tolist()), strict=True):
        seen = slice(start, end if window is None else min(end, start + window + 1))
        keys, values = (part[seen].float().repeat_interleave(group, 1) for part in (k, v))
        scores = torch.einsum("hd,khd->hk", query, keys) * (q.shape[-1] ** -0.5 if scale is None else scale)
        outputs.append(torch.einsum("hk,khd->hd", scores.softmax(-1), values))
    return torch.stack(outputs).to(q.dtype)


def _distances(length: int, device: torch.device) -> Tensor:
    """Key's place minus query's: [queries, keys]."""
    places = torch.arange(length, device=device)
    return places[None, :] - places[:, None]


def _visible(distance: Tensor, causal: bool, window: int | None) -> Tensor:
    visible = distance <= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    return visible if window is None else visible & (distance.abs() <= window)


def relative_buckets(distance: Tensor, buckets: int, max_distance: int, *, bidirectional: bool) -> Tensor:
    """T5's bucket of each distance (key's place minus query's).

    Half of the buckets are for one distance each, the others are as wide as a logarithm makes them; when
    bidirectional, the upper half is for keys that come later (Raffel et al., 2020, https://arxiv.org/abs/1910.10683).
    """
    if bidirectional:
        buckets //= 2
        later, distance = (distance > 0).long() * buckets, distance.abs()
    else:
        later, distance = torch.zeros_like(distance), (-distance).clamp(min=0)
    exact = buckets // 2
    # float32 as in transformers, so that no distance falls on the other side of an edge
    wide = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (buckets - exact)
    wide = (exact + wide.long()).clamp(max=buckets - 1)
    return later + torch.where(distance < exact, distance, wide)
