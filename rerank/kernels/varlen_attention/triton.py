"""Attention over packed sequences: one program a tile of queries, a head and a sequence."""

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
from rerank.kernels.varlen_attention.reference import relative_buckets

__all__ = ["supports", "varlen_attention"]


@triton.jit
def _varlen_attention(
    q, k, v, bias, output, lse, cu_seqlens, scale, cap, longest,
    q_token, q_head, k_token, k_head, v_token, v_head,
    HEADS: tl.constexpr, GROUP: tl.constexpr, DIM: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BLOCK_Q
    head = tl.program_id(1)
    start = tl.load(cu_seqlens + tl.program_id(2)).to(tl.int64)
    length = (tl.load(cu_seqlens + tl.program_id(2) + 1).to(tl.int64) - start).to(tl.int32)
    if first >= length:  # the grid is as long as the longest sequence
        return
    row = first + tl.arange(0, BLOCK_Q)
    column = tl.arange(0, DIM)
    live = row[:, None] < length
    queries = tl.load(
        q + (start + row[:, None]) * q_token + head * q_head + column[None, :], mask=live, other=0.0
    )  # [BLOCK_Q, DIM]
    k += start * k_token + (head // GROUP) * k_head
    v += start * v_token + (head // GROUP) * v_head
    best = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    mixed = tl.zeros([BLOCK_Q, DIM], tl.float32)
    # only tiles that some query of this one sees are visited
    lowest, highest = 0, length
    if WINDOW is not None:
        lowest = tl.maximum(0, first - WINDOW) // BLOCK_K * BLOCK_K
        highest = tl.minimum(length, first + BLOCK_Q + WINDOW)
    if CAUSAL:
        highest = tl.minimum(length, first + BLOCK_Q)
    for at in range(lowest, highest, BLOCK_K):
        place = at + tl.arange(0, BLOCK_K)
        there = place[:, None] < length
        keys = tl.load(k + place[:, None] * k_token + column[None, :], mask=there, other=0.0)
        values = tl.load(v + place[:, None] * v_token + column[None, :], mask=there, other=0.0)
        distance = place[None, :] - row[:, None]  # [BLOCK_Q, BLOCK_K]
        visible = (place[None, :] < length) & live
        if CAUSAL:
            visible &= distance <= 0
        if WINDOW is not None:
            visible &= (distance <= WINDOW) & (distance >= -WINDOW)
        scores = dot(queries, tl.trans(keys)) * scale
        if cap is not None:
            scores = soft_cap(scores, cap)
        if bias is not None:
            scores += tl.load(bias + head * (2 * longest - 1) + distance + longest - 1, mask=visible, other=0.0)
        scores = tl.where(visible, scores * LOG2_E, float("-inf"))
        best, total, mixed = absorb(scores, values, best, total, mixed)
    mixed, log_sum = settled(best, total, mixed)
    token = (start + row) * HEADS + head
    tl.store(output + token[:, None] * DIM + column[None, :], mixed.to(output.dtype.element_ty), mask=live)
    if lse is not None:
        tl.store(lse + token, log_sum, mask=row < length)


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
    """As the reference."""
    tokens, heads, dim = q.shape
    output = torch.empty((tokens, heads, dim), dtype=q.dtype, device=q.device)
    lse = torch.empty((tokens, heads), dtype=torch.float32, device=q.device) if return_lse else None
    if bias is not None:
        bias = _by_distance(bias, longest, max_distance, bidirectional=not causal)
    tiles = attention_tiles(dim, q.element_size())
    _varlen_attention[triton.cdiv(longest, tiles["BLOCK_Q"]), heads, len(cu_seqlens) - 1](
        q, k, v, bias, output, lse, cu_seqlens, dim**-0.5 if scale is None else scale, cap, longest,
        *q.stride()[:2], *k.stride()[:2], *v.stride()[:2],
        HEADS=heads, GROUP=heads // k.shape[1], DIM=dim, CAUSAL=causal, WINDOW=window, **tiles,
    )  # fmt: skip
    return output if lse is None else (output, lse)


def _by_distance(bias: Tensor, longest: int, max_distance: int, *, bidirectional: bool) -> Tensor:
    """The bias of every distance there is, float32 [heads, 2 * longest - 1]: the kernel then needs no logarithm."""
    distance = torch.arange(1 - longest, longest, device=bias.device)
    buckets = relative_buckets(distance, bias.shape[1], max_distance, bidirectional=bidirectional)
    return bias.float()[:, buckets].contiguous()


def supports(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, *others: Any, **options: Any) -> bool:
    """Heads of 32, 64, 128 or 256, each in one piece, where no gradient is wanted."""
    bias = options.get("bias")
    return attention_runs_here(q, k, v) and runs_here(cu_seqlens, bias) and not wants_gradients(q, k, v, bias)
