"""DeBERTa's attention over packed sequences: one program a tile of queries, a head and a sequence.

The products with the position tables are plain matrix products, [tokens, heads, rows]: done before, over the rows that
the longest sequence can reach, and gathered by distance here. The [tokens × tokens] scores are never written.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rerank.kernels.disentangled_attention.reference import position_rows
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

__all__ = ["disentangled_attention", "supports"]


@triton.jit
def _disentangled_attention(
    q, k, v, to_position, from_position, rows, output, cu_seqlens, scale, longest, reach,
    q_token, q_head, k_token, k_head, v_token, v_head,
    HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BLOCK_Q
    head = tl.program_id(1)
    start = tl.load(cu_seqlens + tl.program_id(2)).to(tl.int64)
    length = (tl.load(cu_seqlens + tl.program_id(2) + 1).to(tl.int64) - start).to(tl.int32)
    if first >= length:  # the grid is as long as the longest sequence
        return
    query = first + tl.arange(0, BLOCK_Q)
    column = tl.arange(0, DIM)
    live = query[:, None] < length
    queries = tl.load(
        q + (start + query[:, None]) * q_token + head * q_head + column[None, :], mask=live, other=0.0
    )  # [BLOCK_Q, DIM]
    k += start * k_token + head * k_head
    v += start * v_token + head * v_head
    best = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    mixed = tl.zeros([BLOCK_Q, DIM], tl.float32)
    for at in range(0, length, BLOCK_K):
        key = at + tl.arange(0, BLOCK_K)
        there = key[:, None] < length
        keys = tl.load(k + key[:, None] * k_token + column[None, :], mask=there, other=0.0)
        values = tl.load(v + key[:, None] * v_token + column[None, :], mask=there, other=0.0)
        visible = (key[None, :] < length) & live
        row = tl.load(rows + query[:, None] - key[None, :] + longest - 1, mask=visible, other=0)
        scores = dot(queries, tl.trans(keys))
        if to_position is not None:
            token = (start + query[:, None]) * HEADS + head
            scores += tl.load(to_position + token * reach + row, mask=visible, other=0.0).to(tl.float32)
        if from_position is not None:
            token = (start + key[None, :]) * HEADS + head
            scores += tl.load(from_position + token * reach + row, mask=visible, other=0.0).to(tl.float32)
        scores = tl.where(visible, scores * (scale * LOG2_E), float("-inf"))
        best, total, mixed = absorb(scores, values, best, total, mixed)
    mixed, _ = settled(best, total, mixed)
    token = (start + query) * HEADS + head
    tl.store(output + token[:, None] * DIM + column[None, :], mixed.to(output.dtype.element_ty), mask=live)


def disentangled_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pos_key: Tensor | None,
    pos_query: Tensor | None,
    cu_seqlens: Tensor,
    longest: int,
    *,
    buckets: int = 256,
    max_distance: int = 512,
) -> Tensor:
    """As the reference."""
    tokens, heads, dim = q.shape
    output = torch.empty((tokens, heads, dim), dtype=q.dtype, device=q.device)
    rows, low, high = _reachable(longest, buckets, max_distance, q.device)
    to_position, from_position = (
        None if table is None else torch.einsum("thd,rhd->thr", content, table[low:high]).contiguous()
        for content, table in ((q, pos_key), (k, pos_query))
    )
    scale = (dim * (1 + (pos_key is not None) + (pos_query is not None))) ** -0.5
    tiles = attention_tiles(dim, q.element_size())
    tiles["BLOCK_K"] = min(tiles["BLOCK_K"], 32)  # the two gathers' addresses take registers too
    _disentangled_attention[triton.cdiv(longest, tiles["BLOCK_Q"]), heads, len(cu_seqlens) - 1](
        q, k, v, to_position, from_position, rows, output, cu_seqlens, scale, longest, high - low,
        *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], HEADS=heads, DIM=dim, **tiles,
    )  # fmt: skip
    return output


@lru_cache(maxsize=64)
def _reachable(longest: int, buckets: int, max_distance: int, device: torch.device) -> tuple[Tensor, int, int]:
    """The row of each distance, counted from the first that is reached; the first, and the end of those reached."""
    rows = position_rows(longest, buckets, max_distance)
    low, high = int(rows.min()), int(rows.max()) + 1
    return (rows - low).to(device, torch.int32), low, high


def supports(
    q: Tensor, k: Tensor, v: Tensor, pos_key: Tensor | None, pos_query: Tensor | None, cu_seqlens: Tensor,
    *others: Any, **options: Any,
) -> bool:  # fmt: skip
    """Heads of 32, 64, 128 or 256, each in one piece, where no gradient is wanted."""
    parts = (q, k, v, pos_key, pos_query)
    return attention_runs_here(q, k, v) and runs_here(*parts, cu_seqlens) and not wants_gradients(*parts)
