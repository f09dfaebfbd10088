"""The output head read at a few rows, or at all rows without keeping them, in Triton."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from rerank.kernels.products import are_floats, in_float32, inner_products, size
from rerank.kernels.target_logits.chunked import differentiable
from rerank.kernels.tile import INTERPRET, runs_here, soft_cap

__all__ = ["supports", "supports_all_rows", "target_logits", "token_log_probs"]

MOST_TARGETS = 128  # one program holds all targets of its rows, to normalise over them
ROWS = 16
VOCAB = size(64)
DIM = size(64)
SLICE = 2 * VOCAB if INTERPRET.value else 8192
"""Rows of the head that one program walks over; short in the interpreter, so that tiny inputs need several programs."""


def supports(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, **form: Any) -> bool:
    """Whether `target_logits` can take these."""
    return supports_all_rows(hidden, weight, targets, bias) and 0 < len(targets) <= MOST_TARGETS


def supports_all_rows(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, **form: Any) -> bool:
    """Whether `token_log_probs` can take these."""
    return are_floats(hidden, weight) and weight.stride(-1) == 1 and runs_here(hidden, weight, targets, bias)


@triton.jit
def _finish(logits, bias, scale, softcap):
    """Scale, bias and soft cap, in the order of the reference; bias is [COLUMNS] values or None."""
    logits *= scale
    if bias is not None:
        logits += bias[None, :]
    if softcap is not None:
        logits = soft_cap(logits, softcap)
    return logits


# --- a few rows ------------------------------------------------------------------------------------------------------


@triton.jit
def _target_logits(
    hidden, weight, targets, bias, logits, log_probs, rows, count, dim, vocab, weight_stride, scale, softcap,
    FLOAT32: tl.constexpr, ROWS: tl.constexpr, TARGETS: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # one program a block of rows, with all targets
    row_live = row < rows
    column = tl.arange(0, TARGETS)
    column_live = column < count
    target = tl.load(targets + column, mask=column_live, other=0).to(tl.int64)
    known = (target >= 0) & (target < vocab) & column_live

    found = inner_products(hidden + row * dim, row_live, weight + target * weight_stride, known, dim, FLOAT32, DIM)
    offsets = tl.load(bias + target, mask=known, other=0.0).to(tl.float32) if bias is not None else None
    found = _finish(found, offsets, scale, softcap)
    found = tl.where(known[None, :], found, float("nan"))  # a token that is not in the vocabulary shows
    found = tl.where(column_live[None, :], found, float("-inf"))  # what fills up the block has no share below

    shifted = found - tl.max(found, 1)[:, None]
    normalised = shifted - tl.log(tl.sum(tl.exp(shifted), 1))[:, None]
    place = row[:, None] * count + column[None, :]
    live = row_live[:, None] & column_live[None, :]
    tl.store(logits + place, found, mask=live)
    tl.store(log_probs + place, normalised, mask=live)


class _TargetLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        scale: float,
        softcap: float | None,
    ) -> tuple[Tensor, Tensor]:
        hidden = hidden.contiguous()
        rows, dim = hidden.shape
        logits = torch.empty(rows, len(targets), dtype=torch.float32, device=hidden.device)
        log_probs = torch.empty_like(logits)
        _target_logits[(triton.cdiv(rows, ROWS),)](
            hidden, weight, targets.contiguous(), bias, logits, log_probs,
            rows, len(targets), dim, len(weight), weight.stride(0), scale, softcap,
            FLOAT32=in_float32(hidden, weight),
            ROWS=ROWS, TARGETS=max(16, triton.next_power_of_2(len(targets))), DIM=DIM,
        )  # fmt: skip
        ctx.save_for_backward(hidden, weight, targets, bias, logits, log_probs)
        ctx.scale, ctx.softcap = scale, softcap
        return logits, log_probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_logits: Tensor, to_log_probs: Tensor) -> tuple[Tensor | None, ...]:
        """Products of [rows, targets] with [targets, dim]: too small for a kernel of their own."""
        hidden, weight, targets, bias, logits, log_probs = ctx.saved_tensors
        through = to_logits + to_log_probs - log_probs.exp() * to_log_probs.sum(-1, keepdim=True)
        if ctx.softcap is not None:
            through = through * (1 - (logits / ctx.softcap).square())  # tanh' = 1 - tanh²
        to_hidden = (through @ weight[targets].float() * ctx.scale).to(hidden.dtype)
        to_weight = to_bias = None
        if ctx.needs_input_grad[1]:
            chosen = (through.T @ hidden.float() * ctx.scale).to(weight.dtype)
            to_weight = torch.zeros_like(weight).index_add_(0, targets, chosen)  # adds, because a target may repeat
        if ctx.needs_input_grad[3]:
            to_bias = torch.zeros_like(bias).index_add_(0, targets, through.sum(0).to(bias.dtype))
        return to_hidden, to_weight, None, to_bias, None, None


def target_logits(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """As the reference, in one kernel."""
    return _TargetLogits.apply(hidden, weight, targets, bias, scale, softcap)


# --- all rows --------------------------------------------------------------------------------------------------------


@triton.jit
def _normalise(
    hidden, weight, targets, bias, chosen, sums, rows, dim, vocab, weight_stride, scale, softcap,
    FLOAT32: tl.constexpr, SLICE: tl.constexpr, ROWS: tl.constexpr, VOCAB: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    # one program a block of rows and a slice of the head
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row_live = row < rows
    target = tl.load(targets + row, mask=row_live, other=-1).to(tl.int64)
    part = tl.program_id(1).to(tl.int64)
    stop = tl.minimum((part + 1) * SLICE, vocab)

    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for start in range(part * SLICE, stop, VOCAB):
        column = start + tl.arange(0, VOCAB)
        live = column < stop
        found = inner_products(hidden + row * dim, row_live, weight + column * weight_stride, live, dim, FLOAT32, DIM)
        offsets = tl.load(bias + column, mask=live, other=0.0).to(tl.float32) if bias is not None else None
        found = tl.where(live[None, :], _finish(found, offsets, scale, softcap), float("-inf"))

        # the sum so far was scaled by the largest logit so far; bring it to the new one
        now = tl.maximum(largest, tl.max(found, 1))
        shift = tl.where(now == float("-inf"), 0.0, now)  # a bias may bar tokens with -inf, even all so far
        total = total * tl.exp(largest - shift) + tl.sum(tl.exp(found - shift[:, None]), 1)
        largest = now

        # each target is in one block of one slice, so it is written once
        inside = row_live & (target >= start) & (target < tl.minimum(start + VOCAB, stop))
        hit = column[None, :] == target[:, None]
        tl.store(chosen + row, tl.sum(tl.where(hit, found, 0.0), 1), mask=inside)
    tl.store(sums + part * rows + row, largest + tl.log(total), mask=row_live)


def _walk(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    hidden = hidden.contiguous()
    rows, dim = hidden.shape
    slices = triton.cdiv(len(weight), SLICE)
    chosen = torch.full((rows,), torch.nan, device=hidden.device)  # NaN stays where a target is not in the vocabulary
    sums = torch.empty(slices, rows, device=hidden.device)
    _normalise[(triton.cdiv(rows, ROWS), slices)](
        hidden, weight, targets.contiguous(), bias, chosen, sums,
        rows, dim, len(weight), weight.stride(0), scale, softcap,
        FLOAT32=in_float32(hidden, weight), SLICE=SLICE, ROWS=ROWS, VOCAB=VOCAB, DIM=DIM,
    )  # fmt: skip
    return chosen, sums.logsumexp(0)


def token_log_probs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
) -> Tensor:
    """As the reference; keeps two numbers for each row and slice of the head. The backward pass is the chunked one."""
    return differentiable(_walk, hidden, weight, targets, bias, scale, softcap)
