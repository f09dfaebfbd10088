"""Attention of suffixes to shared prefixes: the keys of a path, put one after the other. The definition."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["prefix_attention"]


def prefix_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    pool_k: Tensor,
    pool_v: Tensor,
    segments: Tensor,
    *,
    window: int | None = None,
    scale: float | None = None,
    cap: float | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Causal attention of requests' last tokens to all of their paths, whose beginnings others have computed.

    A request's path is some segments of the pool, in order, and then its own tokens. Many requests may name the same
    segment, and none is copied. The outcome is that of causal attention over the whole path, for its last tokens.

    Args:
        q: [tokens, heads, dim], the requests' own tokens, packed.
        k, v: [tokens, kv_heads, dim].
        cu_seqlens: int32 [requests + 1], where requests start in q, and at last the number of tokens.
        longest: own tokens of the longest request, or more; known on the host.
        pool_k, pool_v: [pool_tokens, kv_heads, dim], keys (already rotated) and values computed before.
        segments: int32 [requests, slots, 2], start and length in the pool; a length of 0 is an empty slot.
        window: see tokens at most this far back on the path; None: all.
        scale: of the scores; None: 1 / sqrt(dim).
        cap: c · tanh(score / c) bounds the scaled scores.
        return_lse: also give the log-sum-exp of the scores.

    Returns:
        [tokens, heads, dim] in q's dtype, computed in float32; and float32 [tokens, heads] when asked for.
    """
    del longest  # a provider's concern
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    outputs, logs = [], []
    for (start, end), path in zip(pairwise(cu_seqlens.tolist()), segments.tolist(), strict=True):
        keys, values = (
            _along(path, pool, own[start:end], q.shape[1]) for pool, own in ((pool_k, k), (pool_v, v))
        )  # [path, heads, dim]
        scores = torch.einsum("qhd,khd->hqk", q[start:end].float(), keys) * scale
        if cap is not None:
            scores = cap * torch.tanh(scores / cap)
        scores = scores.masked_fill(~_visible(end - start, len(keys), window, q.device), float("-inf"))
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
        logs.append(scores.logsumexp(-1).T)
    output = torch.cat(outputs).to(q.dtype)
    return (output, torch.cat(logs)) if return_lse else output


def _along(path: list[list[int]], pool: Tensor, own: Tensor, heads: int) -> Tensor:
    parts = [pool[start : start + length] for start, length in path]
    return torch.cat([*parts, own]).float().repeat_interleave(heads // own.shape[1], 1)


def _visible(own: int, whole: int, window: int | None, device: torch.device) -> Tensor:
    """The last `own` rows of a causal mask over `whole` tokens."""
    back = torch.arange(whole - own, whole, device=device)[:, None] - torch.arange(whole, device=device)[None, :]
    return back >= 0 if window is None else (back >= 0) & (back <= window)
