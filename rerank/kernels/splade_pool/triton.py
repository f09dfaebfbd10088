"""SPLADE pooling in Triton: the maximum runs along while the logits are made, and they are never kept."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from rerank.errors import InputError
from rerank.kernels.products import are_floats, in_float32, inner_products, size
from rerank.kernels.tile import runs_here

__all__ = ["splade_pool", "supports"]

TOKENS = size(64)
VOCAB = size(64)
DIM = size(64)


def supports(
    hidden: Tensor, cu_seqlens: Tensor, weight: Tensor, bias: Tensor | None = None, *, pooling: str = "max"
) -> bool:
    """Whether the kernel can take these; the sum of version 1 is the reference's alone."""
    return (
        pooling == "max"
        and are_floats(hidden, weight)
        and weight.stride(-1) == 1
        and runs_here(hidden, cu_seqlens, weight, bias)
    )


@triton.jit
def _splade_pool(
    hidden, cu_seqlens, weight, bias, pooled, winners, vocab, dim, weight_stride,
    FLOAT32: tl.constexpr, TOKENS: tl.constexpr, VOCAB: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    # One program a text and block of terms. Neighbours share the block of the head, which is the larger matrix.
    text = tl.program_id(0).to(tl.int64)
    term = tl.program_id(1).to(tl.int64) * VOCAB + tl.arange(0, VOCAB)
    term_live = term < vocab
    start = tl.load(cu_seqlens + text).to(tl.int64)
    stop = tl.load(cu_seqlens + text + 1).to(tl.int64)

    largest = tl.full([VOCAB], float("-inf"), tl.float32)
    winner = tl.full([VOCAB], -1, tl.int64)
    for begin in range(start, stop, TOKENS):
        token = begin + tl.arange(0, TOKENS)
        live = token < stop
        logits = inner_products(hidden + token * dim, live, weight + term * weight_stride, term_live, dim, FLOAT32, DIM)
        logits = tl.where(logits == logits, logits, float("inf"))  # a maximum would drop NaN; infinity stays to be seen
        logits = tl.where(live[:, None], logits, float("-inf"))
        top, index = tl.max(logits, 0, return_indices=True)
        winner = tl.where(top > largest, begin + index, winner)  # >: of equal logits the first token's stays
        largest = tl.maximum(largest, top)

    # bias, relu and log1p keep the order of logits, so doing them once, to the largest, gives the same
    if bias is not None:
        largest += tl.load(bias + term, mask=term_live, other=0.0).to(tl.float32)
    place = text * vocab + term
    tl.store(pooled + place, tl.log(1.0 + tl.maximum(largest, 0.0)), mask=term_live)
    if winners is not None:
        tl.store(winners + place, winner, mask=term_live)


class _SpladePool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, cu_seqlens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        hidden = hidden.contiguous()
        texts, (vocab, dim) = len(cu_seqlens) - 1, weight.shape
        pooled = torch.empty(texts, vocab, device=hidden.device)
        winners = torch.empty_like(pooled, dtype=torch.int64) if any(ctx.needs_input_grad) else None
        _splade_pool[(texts, triton.cdiv(vocab, VOCAB))](
            hidden, cu_seqlens, weight, bias, pooled, winners, vocab, dim, weight.stride(0),
            FLOAT32=in_float32(hidden, weight), TOKENS=TOKENS, VOCAB=VOCAB, DIM=DIM,
        )  # fmt: skip
        ctx.save_for_backward(hidden, weight, bias, pooled, winners)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Both large gradients are products with one sparse matrix, which has an entry an active term: its token."""
        hidden, weight, bias, pooled, winners = ctx.saved_tensors
        # d log(1 + x) / dx = 1 / (1 + x) = exp(-log(1 + x)); a term that relu cut off passes nothing on
        to_logits = torch.where(pooled > 0, gradient * torch.exp(-pooled), 0.0)
        text, term = (pooled > 0).nonzero(as_tuple=True)
        places = torch.stack([winners[text, term], term])
        shape = (len(hidden), len(weight))
        chosen = torch.sparse_coo_tensor(places, to_logits[text, term], shape, check_invariants=False)
        to_hidden = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_hidden = torch.sparse.mm(chosen, weight.float()).to(hidden.dtype)
        if ctx.needs_input_grad[2]:
            to_weight = torch.sparse.mm(chosen.t(), hidden.float()).to(weight.dtype)
        if ctx.needs_input_grad[3]:
            to_bias = to_logits.sum(0).to(bias.dtype)
        return to_hidden, None, to_weight, to_bias


def splade_pool(
    hidden: Tensor, cu_seqlens: Tensor, weight: Tensor, bias: Tensor | None = None, *, pooling: str = "max"
) -> Tensor:
    """As the reference, for pooling "max"; the backward pass keeps one token a text and term."""
    if pooling != "max":
        raise InputError(f"pooling {pooling!r} has no kernel; use provider 'reference'")
    return _SpladePool.apply(hidden, cu_seqlens, weight, bias)
