"""The attention that query tokens pay to a context, in two passes over its keys and without their matrix.

First every query row's log-sum-exp, by parts of the context; then, a tile of keys at a time, what all rows give to it.
Nothing is added atomically, so the same inputs give the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rerank.kernels.tile import (
    INTERPRET,
    LN_2,
    LOG2_E,
    attention_runs_here,
    attention_tiles,
    dot,
    runs_here,
    wants_gradients,
)

__all__ = ["attention_mass", "supports"]

PART = 32 if INTERPRET.value else 1024
"""Context tokens that one program of the first pass reads: enough programs to fill a GPU with few query tokens."""


@triton.jit
def _log_sums(
    q, k, context, parts, scale, queries, tokens, q_token, q_head, k_token, k_head, context_token, context_head,
    PART: tl.constexpr, GROUP: tl.constexpr, DIM: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """parts[part, head, query]: log2 of the sum over a part of the context, or, in the last part, over q's own."""
    head = tl.program_id(1)
    part = tl.program_id(2)
    row = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    column = tl.arange(0, DIM)
    rows = tl.load(q + row[:, None] * q_token + head * q_head + column[None, :], mask=row[:, None] < queries, other=0.0)
    own = part == tl.num_programs(2) - 1
    keys_at, stride = context + (head // GROUP) * context_head, context_token
    low, high = part * PART, tl.minimum(part * PART + PART, tokens)
    if own:
        keys_at, stride = k + (head // GROUP) * k_head, k_token
        low, high = 0, queries
    best = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    for at in range(low, high, BLOCK_K):
        place = at + tl.arange(0, BLOCK_K)
        keys = tl.load(
            keys_at + place[:, None].to(tl.int64) * stride + column[None, :], mask=place[:, None] < high, other=0.0
        )
        visible = (place[None, :] < high) & ((place[None, :] <= row[:, None]) | (not own))
        scores = tl.where(visible, dot(rows, tl.trans(keys)) * (scale * LOG2_E), float("-inf"))
        higher = tl.maximum(best, tl.max(scores, 1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp2(best - shift) + tl.sum(tl.exp2(scores - shift[:, None]), 1)
        best = higher
    log_sum = tl.where(total > 0, best + tl.log2(tl.where(total > 0, total, 1.0)), float("-inf"))
    place = (part * tl.num_programs(1) + head) * queries + row
    tl.store(parts + place, log_sum, mask=row < queries)


@triton.jit
def _mass(
    q, context, log_sums, mass, scale, queries, tokens, q_token, q_head, context_token, context_head,
    GROUP: tl.constexpr, DIM: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """mass[kv_head, token]: what all query tokens of the heads that share a key give to it."""
    kv_head = tl.program_id(1)
    place = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    column = tl.arange(0, DIM)
    keys = tl.load(
        context + place[:, None].to(tl.int64) * context_token + kv_head * context_head + column[None, :],
        mask=place[:, None] < tokens,
        other=0.0,
    )
    given = tl.zeros([BLOCK_K], tl.float32)
    for head in range(kv_head * GROUP, kv_head * GROUP + GROUP):
        for first in range(0, queries, BLOCK_Q):
            row = first + tl.arange(0, BLOCK_Q)
            there = row < queries
            rows = tl.load(q + row[:, None] * q_token + head * q_head + column[None, :], mask=there[:, None], other=0.0)
            # a row that is not there gives nothing: exp2(score - inf) = 0
            log_sum = tl.load(log_sums + head * queries + row, mask=there, other=float("inf"))
            scores = dot(rows, tl.trans(keys)) * (scale * LOG2_E)
            given += tl.sum(tl.exp2(scores - log_sum[:, None]), 0)
    tl.store(mass + kv_head * tokens + place, given, mask=place < tokens)


@triton.jit
def _per_document(mass, spans, documents, BLOCK: tl.constexpr):
    """documents[i]: the mass within its span."""
    document = tl.program_id(0)
    start = tl.load(spans + 2 * document)
    end = tl.load(spans + 2 * document + 1)
    total = tl.zeros([BLOCK], tl.float32)
    for at in range(start, end, BLOCK):
        place = at + tl.arange(0, BLOCK)
        total += tl.load(mass + place, mask=place < end, other=0.0)
    tl.store(documents + document, tl.sum(total, 0))


def attention_mass(
    q: Tensor, k: Tensor, context: Tensor, spans: Tensor | None = None, *, scale: float | None = None
) -> Tensor:
    """As the reference."""
    queries, heads, dim = q.shape
    tokens, kv_heads, _ = context.shape
    scale = dim**-0.5 if scale is None else scale
    tiles = attention_tiles(dim, q.element_size())
    parts = torch.empty(triton.cdiv(tokens, PART) + 1, heads, queries, dtype=torch.float32, device=q.device)
    _log_sums[triton.cdiv(queries, tiles["BLOCK_Q"]), heads, len(parts)](
        q, k, context, parts, scale, queries, tokens, *q.stride()[:2], *k.stride()[:2], *context.stride()[:2],
        PART=PART, GROUP=heads // kv_heads, DIM=dim, **tiles,
    )  # fmt: skip
    log_sums = torch.logsumexp(parts * LN_2.value, 0) * LOG2_E.value
    mass = torch.empty(kv_heads, tokens, dtype=torch.float32, device=q.device)
    _mass[triton.cdiv(tokens, tiles["BLOCK_K"]), kv_heads](
        q, context, log_sums, mass, scale, queries, tokens, *q.stride()[:2], *context.stride()[:2],
        GROUP=heads // kv_heads, DIM=dim, **tiles,
    )  # fmt: skip
    mass = mass.sum(0)
    if spans is None:
        return mass
    documents = torch.empty(len(spans), dtype=torch.float32, device=q.device)
    _per_document[(len(spans),)](mass, spans.contiguous(), documents, BLOCK=16 if INTERPRET.value else 256)
    return documents


def supports(q: Tensor, k: Tensor, context: Tensor, spans: Tensor | None = None, **options: Any) -> bool:
    """Heads of 32, 64, 128 or 256, each in one piece, where no gradient is wanted."""
    return attention_runs_here(q, k, context) and runs_here(spans) and not wants_gradients(q, k, context)
