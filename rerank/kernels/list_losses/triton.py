"""List losses in Triton: one program a list, which makes the loss and its gradient in one go and keeps no pairs.

A list's scores lie across the columns of a tile, and again, a few at a time, down its rows. Everything that is added up
over a document's partners is then a sum down the columns, and the gradient of a score needs no atomic.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from rerank.errors import InputError
from rerank.kernels.tile import runs_here

__all__ = ["lambdarank", "listmle", "ranknet", "supports"]

MOST_DOCS = 128
ROWS = 16  # [16, 128] pairs at a time are 16 registers a thread for each value of a pair


def supports(scores: Tensor, relevance: Tensor, mask: Tensor, **options: Any) -> bool:
    """Whether the kernels can take these. They are not chosen for it: see the op."""
    return scores.shape[-1] <= MOST_DOCS and scores.dtype != torch.float64 and runs_here(scores, relevance, mask)


@triton.jit
def _present(mask, base, index, docs):
    """Whether there is a document at these places of a list."""
    inside = index < docs
    return (tl.load(mask + base + index, mask=inside, other=0) != 0) & inside


@triton.jit
def _values(values, base, index, present):
    """Some documents' values in float32; 0 where there is none."""
    return tl.load(values + base + index, mask=present, other=0.0).to(tl.float32)


@triton.jit
def _before(row_value, row, row_present, value, column, present, TIES_IN_ORDER: tl.constexpr):
    """Whether the document of a row is ranked before that of a column: [ROWS, DOCS]."""
    ahead = row_value[:, None] > value[None, :]
    if TIES_IN_ORDER:
        ahead = ahead | ((row_value[:, None] == value[None, :]) & (row[:, None] < column[None, :]))
    return ahead & row_present[:, None] & present[None, :]


@triton.jit
def _column_ranks(values, mask, base, docs, TIES_IN_ORDER: tl.constexpr, ROWS: tl.constexpr, DOCS: tl.constexpr):
    """The rank of every document, from 1: [DOCS]."""
    column = tl.arange(0, DOCS)
    present = _present(mask, base, column, docs)
    value = _values(values, base, column, present)
    rank = tl.full([DOCS], 1.0, tl.float32)
    for start in range(0, docs, ROWS):
        row = start + tl.arange(0, ROWS)
        row_present = _present(mask, base, row, docs)
        row_value = _values(values, base, row, row_present)
        ahead = _before(row_value, row, row_present, value, column, present, TIES_IN_ORDER)
        rank += tl.sum(ahead.to(tl.float32), 0)
    return rank


@triton.jit
def _row_ranks(value, column, present, row_value, row, row_present, TIES_IN_ORDER: tl.constexpr):
    """The ranks of the documents of a block of rows, from 1: [ROWS]."""
    ahead = _before(value, column, present, row_value, row, row_present, TIES_IN_ORDER)  # [DOCS, ROWS]
    return 1.0 + tl.sum(ahead.to(tl.float32), 0)


@triton.jit
def _discount(rank):
    return 1.0 / tl.log2(1.0 + rank)


@triton.jit
def _pairs(
    scores, relevance, mask, losses, gradients, docs,
    WEIGHTING: tl.constexpr, MEAN: tl.constexpr, ROWS: tl.constexpr, DOCS: tl.constexpr,
):  # fmt: skip
    """RankNet with its weightings, and LambdaRank, whose weighting is "lambda"."""
    query = tl.program_id(0).to(tl.int64)  # one program a list
    base = query * docs
    column = tl.arange(0, DOCS)
    present = _present(mask, base, column, docs)
    score = _values(scores, base, column, present)
    gain = _values(relevance, base, column, present)

    # where documents stand: for LambdaRank by score, each its own place; otherwise by relevance, ties together
    BY_SCORE: tl.constexpr = WEIGHTING == "lambda"
    placed = scores if BY_SCORE else relevance
    standing = score if BY_SCORE else gain
    rank = _column_ranks(placed, mask, base, docs, BY_SCORE, ROWS, DOCS)
    ideal_rank = _column_ranks(relevance, mask, base, docs, True, ROWS, DOCS)
    ideal = tl.sum(tl.where(present, gain * _discount(ideal_rank), 0.0), 0)

    loss = tl.zeros([DOCS], tl.float32)
    gradient = tl.zeros([DOCS], tl.float32)
    count = tl.zeros([DOCS], tl.float32)
    for start in range(0, docs, ROWS):
        row = start + tl.arange(0, ROWS)
        row_present = _present(mask, base, row, docs)
        row_score = _values(scores, base, row, row_present)
        row_gain = _values(relevance, base, row, row_present)
        wins = _before(row_gain, row, row_present, gain, column, present, False)  # the row's document is the better
        gap = row_gain[:, None] - gain[None, :]
        loses = (gap < 0) & row_present[:, None] & present[None, :]

        weight = tl.full([ROWS, DOCS], 1.0, tl.float32)
        if WEIGHTING != "none":
            row_standing = _values(placed, base, row, row_present)
            row_rank = _row_ranks(standing, column, present, row_standing, row, row_present, BY_SCORE)
            if WEIGHTING == "reciprocal":
                weight = 1.0 / (row_rank[:, None] + rank[None, :])
            else:
                moved = tl.abs(_discount(row_rank)[:, None] - _discount(rank)[None, :])
                weight = tl.where(ideal > 0, tl.abs(gap) * moved / ideal, 0.0)

        margin = row_score[:, None] - score[None, :]
        softplus = tl.maximum(-margin, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(margin)))
        loss += tl.sum(tl.where(wins, weight * softplus, 0.0), 0)
        # each pair is seen from both sides; the column's document takes its share each time
        pushed = weight * tl.sigmoid(-margin)
        pulled = weight * tl.sigmoid(margin)
        gradient += tl.sum(tl.where(wins, pushed, 0.0) - tl.where(loses, pulled, 0.0), 0)
        count += tl.sum(wins.to(tl.float32), 0)

    share = 1.0 / tl.maximum(tl.sum(count, 0), 1.0) if MEAN else 1.0
    tl.store(losses + query, tl.sum(loss, 0) * share)
    tl.store(gradients + base + column, gradient * share, mask=column < docs)


@triton.jit
def _listmle(
    scores, relevance, mask, losses, gradients, docs, ROWS: tl.constexpr, DOCS: tl.constexpr
):  # fmt: skip
    """A document's tail is what is not ranked before it: comparing ranks finds it without sorting."""
    query = tl.program_id(0).to(tl.int64)  # one program a list
    base = query * docs
    column = tl.arange(0, DOCS)
    present = _present(mask, base, column, docs)
    score = _values(scores, base, column, present)
    gain = _values(relevance, base, column, present)
    rank = _column_ranks(relevance, mask, base, docs, True, ROWS, DOCS)

    loss = 0.0
    gradient = tl.where(present, -1.0, 0.0)
    for start in range(0, docs, ROWS):
        row = start + tl.arange(0, ROWS)
        row_present = _present(mask, base, row, docs)
        row_gain = _values(relevance, base, row, row_present)
        row_rank = _row_ranks(gain, column, present, row_gain, row, row_present, True)
        tail = (rank[None, :] >= row_rank[:, None]) & present[None, :] & row_present[:, None]
        # each tail has its own maximum: under a shared one a tail far below it would vanish
        inside = tl.where(tail, score[None, :], float("-inf"))
        largest = tl.where(row_present, tl.max(inside, 1), 0.0)
        normaliser = largest + tl.log(tl.where(row_present, tl.sum(tl.exp(inside - largest[:, None]), 1), 1.0))
        loss += tl.sum(normaliser - _values(scores, base, row, row_present), 0)  # both are 0 where there is none
        gradient += tl.sum(tl.exp(inside - normaliser[:, None]), 0)
    tl.store(losses + query, loss)
    tl.store(gradients + base + column, gradient, mask=column < docs)


class _ListLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernel: Any, options: dict[str, Any], scores: Tensor, relevance: Tensor, mask: Tensor
    ) -> Tensor:
        queries, docs = scores.shape
        losses = torch.empty(queries, device=scores.device)
        gradients = torch.empty(queries, docs, device=scores.device)
        kernel[(queries,)](
            scores.contiguous(), relevance.contiguous(), mask.contiguous(), losses, gradients, docs,
            ROWS=ROWS, DOCS=max(16, triton.next_power_of_2(docs)), **options,
        )  # fmt: skip
        ctx.save_for_backward(gradients)
        ctx.dtype = scores.dtype
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        [gradients] = ctx.saved_tensors
        return None, None, (gradient[:, None] * gradients).to(ctx.dtype), None, None


def _loss(kernel: Any, options: dict[str, Any], scores: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    docs = scores.shape[-1]
    if docs > MOST_DOCS:
        raise InputError(f"a list of {docs} documents is over the kernel's {MOST_DOCS}; use provider 'reference'")
    return _ListLoss.apply(kernel, options, scores, relevance, mask)


def ranknet(scores: Tensor, relevance: Tensor, mask: Tensor, *, weighting: str = "none") -> Tensor:
    """As the reference, in one kernel."""
    return _loss(_pairs, {"WEIGHTING": weighting, "MEAN": True}, scores, relevance, mask)


def lambdarank(scores: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """As the reference, in one kernel."""
    return _loss(_pairs, {"WEIGHTING": "lambda", "MEAN": False}, scores, relevance, mask)


def listmle(scores: Tensor, relevance: Tensor, mask: Tensor) -> Tensor:
    """As the reference, in one kernel."""
    return _loss(_listmle, {}, scores, relevance, mask)
