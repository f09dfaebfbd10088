"""Attention within documents and to the others' interaction tokens: one program a tile of queries, a head, a document.

The interaction tokens' keys and values are read where they lie among all others: every document's are projected once,
and no copy is made for those that see them.
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
    wants_gradients,
)

__all__ = ["set_attention", "supports"]


@triton.jit
def _absorb_tokens(best, total, mixed, queries, visible, token, column, k, v, k_token, v_token, scale):
    """Take the keys of these tokens (anywhere in the packed row); those that are not visible are not read."""
    keys = tl.load(k + token[:, None] * k_token + column[None, :], mask=visible[:, None], other=0.0)
    values = tl.load(v + token[:, None] * v_token + column[None, :], mask=visible[:, None], other=0.0)
    scores = dot(queries, tl.trans(keys)) * (scale * LOG2_E)
    return absorb(tl.where(visible[None, :], scores, float("-inf")), values, best, total, mixed)


@triton.jit
def _set_attention(
    q, k, v, output, cu_seqlens, cu_sets, set_of, scale, interaction,
    q_token, q_head, k_token, k_head, v_token, v_head,
    HEADS: tl.constexpr, GROUP: tl.constexpr, DIM: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BLOCK_Q
    head = tl.program_id(1)
    document = tl.program_id(2)
    start = tl.load(cu_seqlens + document).to(tl.int64)
    length = (tl.load(cu_seqlens + document + 1).to(tl.int64) - start).to(tl.int32)
    if first >= length:  # the grid is as long as the longest document
        return
    row = first + tl.arange(0, BLOCK_Q)
    column = tl.arange(0, DIM)
    live = row[:, None] < length
    queries = tl.load(
        q + (start + row[:, None]) * q_token + head * q_head + column[None, :], mask=live, other=0.0
    )  # [BLOCK_Q, DIM]
    k += (head // GROUP) * k_head
    v += (head // GROUP) * v_head
    best = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    mixed = tl.zeros([BLOCK_Q, DIM], tl.float32)
    for at in range(0, length, BLOCK_K):
        place = at + tl.arange(0, BLOCK_K)
        best, total, mixed = _absorb_tokens(
            best, total, mixed, queries, place < length, start + place, column, k, v, k_token, v_token, scale
        )
    this_set = tl.load(set_of + document)
    last = tl.load(cu_sets + this_set + 1)
    for at in range(tl.load(cu_sets + this_set), last, BLOCK_K):
        other = at + tl.arange(0, BLOCK_K)
        there = (other < last) & (other != document)  # its own it has seen already
        token = tl.load(cu_seqlens + other, mask=there, other=0).to(tl.int64) + interaction
        there &= token < tl.load(cu_seqlens + other + 1, mask=there, other=0)
        best, total, mixed = _absorb_tokens(
            best, total, mixed, queries, there, token, column, k, v, k_token, v_token, scale
        )
    mixed, _ = settled(best, total, mixed)
    token = (start + row) * HEADS + head
    tl.store(output + token[:, None] * DIM + column[None, :], mixed.to(output.dtype.element_ty), mask=live)


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
    """As the reference."""
    tokens, heads, dim = q.shape
    output = torch.empty((tokens, heads, dim), dtype=q.dtype, device=q.device)
    documents = torch.arange(len(cu_seqlens) - 1, device=q.device, dtype=torch.int32)
    set_of = torch.searchsorted(cu_sets[1:].contiguous(), documents, right=True, out_int32=True)  # which query's
    tiles = attention_tiles(dim, q.element_size())
    _set_attention[triton.cdiv(longest, tiles["BLOCK_Q"]), heads, len(documents)](
        q, k, v, output, cu_seqlens, cu_sets, set_of, dim**-0.5 if scale is None else scale, interaction,
        *q.stride()[:2], *k.stride()[:2], *v.stride()[:2],
        HEADS=heads, GROUP=heads // k.shape[1], DIM=dim, **tiles,
    )  # fmt: skip
    return output


def supports(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int, cu_sets: Tensor, **options: Any
) -> bool:
    """Heads of 32, 64, 128 or 256, each in one piece, where no gradient is wanted."""
    return attention_runs_here(q, k, v) and runs_here(cu_seqlens, cu_sets) and not wants_gradients(q, k, v)
