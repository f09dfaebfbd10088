"""Attention of suffixes to shared prefixes: one program a tile of a request's own tokens and a head.

The running softmax goes over the segments where they lie in the pool, then over the request's own keys, so nothing is
copied and there is nothing to merge afterwards.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rerank.kernels.tile import (
    LOG2_E,
    absorb,
    attention_runs_here,
    attention_tiles,
    dot,
    runs_here,
    settled,
    soft_cap,
    wants_gradients,
)

__all__ = ["prefix_attention", "supports"]


@triton.jit
def _absorb_keys(
    best, total, mixed, queries, visible, place, column, k, v, k_token, v_token, size, scale, cap
):  # fmt: skip
    """Take the keys at `place` of a run of `size` tokens that starts at `k` and `v`."""
    there = place[:, None] < size
    keys = tl.load(k + place[:, None] * k_token + column[None, :], mask=there, other=0.0)
    values = tl.load(v + place[:, None] * v_token + column[None, :], mask=there, other=0.0)
    scores = dot(queries, tl.trans(keys)) * scale
    if cap is not None:
        scores = soft_cap(scores, cap)
    scores = tl.where(visible, scores * LOG2_E, float("-inf"))
    return absorb(scores, values, best, total, mixed)


@triton.jit
def _prefix_attention(
    q, k, v, pool_k, pool_v, segments, output, lse, cu_seqlens, scale, cap, slots,
    q_token, q_head, k_token, k_head, v_token, v_head, pool_k_token, pool_k_head, pool_v_token, pool_v_head,
    HEADS: tl.constexpr, GROUP: tl.constexpr, DIM: tl.constexpr, WINDOW: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BLOCK_Q
    head = tl.program_id(1)
    request = tl.program_id(2)
    start = tl.load(cu_seqlens + request).to(tl.int64)
    length = (tl.load(cu_seqlens + request + 1).to(tl.int64) - start).to(tl.int32)
    if first >= length:  # the grid is as long as the longest request
        return
    row = first + tl.arange(0, BLOCK_Q)
    column = tl.arange(0, DIM)
    live = row[:, None] < length
    queries = tl.load(
        q + (start + row[:, None]) * q_token + head * q_head + column[None, :], mask=live, other=0.0
    )  # [BLOCK_Q, DIM]
    best = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    mixed = tl.zeros([BLOCK_Q, DIM], tl.float32)

    # how far each query is from where the segment at hand starts; at first, from the start of the path
    offset = row
    nearest = first
    if WINDOW is not None:
        for slot in range(slots):
            size = tl.load(segments + (request * slots + slot) * 2 + 1)
            offset += size
            nearest += size
    for slot in range(slots):
        segment = segments + (request * slots + slot) * 2
        begin = tl.load(segment).to(tl.int64)
        size = tl.load(segment + 1)
        segment_k = pool_k + begin * pool_k_token + (head // GROUP) * pool_k_head
        segment_v = pool_v + begin * pool_v_token + (head // GROUP) * pool_v_head
        lowest = 0
        if WINDOW is not None:  # tiles that no query of this one sees are passed over
            lowest = tl.maximum(0, nearest - WINDOW) // BLOCK_K * BLOCK_K
        for at in range(lowest, size, BLOCK_K):
            place = at + tl.arange(0, BLOCK_K)
            visible = (place[None, :] < size) & live
            if WINDOW is not None:
                visible &= offset[:, None] - place[None, :] <= WINDOW
            best, total, mixed = _absorb_keys(
                best, total, mixed, queries, visible, place, column, segment_k, segment_v,
                pool_k_token, pool_v_token, size, scale, cap,
            )  # fmt: skip
        if WINDOW is not None:
            offset -= size
            nearest -= size

    k += start * k_token + (head // GROUP) * k_head
    v += start * v_token + (head // GROUP) * v_head
    lowest = 0
    if WINDOW is not None:
        lowest = tl.maximum(0, first - WINDOW) // BLOCK_K * BLOCK_K
    for at in range(lowest, tl.minimum(length, first + BLOCK_Q), BLOCK_K):
        place = at + tl.arange(0, BLOCK_K)
        back = row[:, None] - place[None, :]
        visible = (back >= 0) & live
        if WINDOW is not None:
            visible &= back <= WINDOW
        best, total, mixed = _absorb_keys(
            best, total, mixed, queries, visible, place, column, k, v, k_token, v_token, length, scale, cap
        )
    mixed, log_sum = settled(best, total, mixed)
    token = (start + row) * HEADS + head
    tl.store(output + token[:, None] * DIM + column[None, :], mixed.to(output.dtype.element_ty), mask=live)
    if lse is not None:
        tl.store(lse + token, log_sum, mask=row < length)


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
    """As the reference."""
    tokens, heads, dim = q.shape
    output = torch.empty((tokens, heads, dim), dtype=q.dtype, device=q.device)
    lse = torch.empty((tokens, heads), dtype=torch.float32, device=q.device) if return_lse else None
    tiles = attention_tiles(dim, q.element_size())
    _prefix_attention[triton.cdiv(longest, tiles["BLOCK_Q"]), heads, len(cu_seqlens) - 1](
        q, k, v, pool_k, pool_v, segments.contiguous(), output, lse, cu_seqlens,
        dim**-0.5 if scale is None else scale, cap, segments.shape[1],
        *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *pool_k.stride()[:2], *pool_v.stride()[:2],
        HEADS=heads, GROUP=heads // k.shape[1], DIM=dim, WINDOW=window, **tiles,
    )  # fmt: skip
    return output if lse is None else (output, lse)


def supports(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int,
    pool_k: Tensor, pool_v: Tensor, segments: Tensor, **options: Any,
) -> bool:  # fmt: skip
    """Heads of 32, 64, 128 or 256, each in one piece, where no gradient is wanted."""
    parts = (q, k, v, pool_k, pool_v)
    return attention_runs_here(*parts) and runs_here(cu_seqlens, segments) and not wants_gradients(*parts)
