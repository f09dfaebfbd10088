"""Attention within each text of a row: by text through torch's SDPA, or all texts in one kernel.

Every kind of attention is a module with three methods, so that another way of computing it can be put in its place:

- `forward(q, k, v, row)`: every token's, [rows, heads, dim] each -> [rows, width];
- `first(q, k, v, row)`: of the first token of each text alone, q being [texts, heads, dim] -> [texts, width];
- `products(length)` and `first_products(length)`: multiply-adds for each channel, of one text.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from rerank.engine.encoders.row import Row, Run

__all__ = ["TextAttention", "VarlenAttention", "beginnings", "by_run", "pairs_seen"]


class TextAttention(nn.Module):
    """Attention text by text; those of equal length that lie side by side share a call, which changes no bit of them.

    Args:
        window: see tokens at most this far away; None sees the whole text.
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window = window

    def forward(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[rows, heads, dim] -> [rows, width]."""
        return by_run(q, k, v, row, self.mask)

    def first(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[texts, heads, dim], [rows, heads, dim] -> [texts, width]."""
        outputs = []
        done = 0
        for run in row.runs:
            queries = q[done : done + run.count].unsqueeze(2)  # [texts, heads, 1, dim]
            reach = run.length if self.window is None else min(run.length, self.window + 1)
            keys, values = (texts_of(part, run)[:, :, :reach] for part in (k, v))
            mask = self.mask(run.length)
            near = None if mask is None or reach < run.length else mask[..., :1, :]
            outputs.append(scaled_dot_product_attention(queries, keys, values, attn_mask=near))
            done += run.count
        return torch.cat(outputs).flatten(1)

    def mask(self, length: int) -> Tensor | None:
        """Which tokens see each other: bool [length, length], or None when all do."""
        if self.window is None or length <= self.window + 1:
            return None
        places = torch.arange(length)
        return (places[:, None] - places[None, :]).abs() <= self.window

    def products(self, length: int) -> int:
        """Multiply-adds for each channel: scores and values."""
        return 2 * pairs_seen(length, self.window)

    def first_products(self, length: int) -> int:
        """Those of the first token alone."""
        return 2 * (length if self.window is None else min(length, self.window + 1))


class VarlenAttention(nn.Module):
    """All texts in one call of the op `varlen_attention`.

    Args:
        window: as above.
        bias: table of relative distances [heads, buckets], or None.
    """

    def __init__(self, window: int | None = None, bias: Tensor | None = None) -> None:
        super().__init__()
        self.window = window
        self.bias = bias

    def forward(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[rows, heads, dim] -> [rows, width]."""
        from rerank.kernels.varlen_attention import varlen_attention

        output = varlen_attention(q, k, v, row.ends, row.longest, window=self.window, bias=self.bias)
        return whole(output, row)

    def products(self, length: int) -> int:
        """Multiply-adds for each channel: scores and values."""
        return 2 * pairs_seen(length, self.window)


def by_run(q: Tensor, k: Tensor, v: Tensor, row: Row, mask: Callable[[int], Tensor | None]) -> Tensor:
    """SDPA for each run of texts; filler comes back as zeros."""
    outputs = []
    for run in row.runs:
        queries, keys, values = (texts_of(part, run) for part in (q, k, v))
        attended = scaled_dot_product_attention(queries, keys, values, attn_mask=mask(run.length))
        outputs.append(attended.transpose(1, 2).flatten(0, 1))  # [tokens, heads, dim]
    filler = row.rows - row.runs[-1].tokens.stop
    return torch.cat([*outputs, q.new_zeros(filler, *q.shape[1:])]).flatten(1)


def beginnings(q: Tensor, k: Tensor, v: Tensor, row: Row, window: int | None) -> Tensor:
    """SDPA for each run of texts, which looks at the first `row.seen` tokens of each text alone.

    Args:
        q, k, v: [rows, heads, dim].
        row: with `runs` and `seen`.
        window: look at tokens at most this far away; None at all.

    Returns:
        [rows, width]; filler is zeros.
    """
    assert row.seen is not None
    near, outputs, done = TextAttention(window), [], 0
    for run in row.runs:
        places = torch.arange(run.length, device=q.device)
        mask = (places < row.seen[done : done + run.count, None])[:, None, None]  # [texts, 1, 1, tokens]
        local = near.mask(run.length)
        if local is not None:
            mask = mask & local.to(q.device)
        queries, keys, values = (texts_of(part, run) for part in (q, k, v))
        attended = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        outputs.append(attended.transpose(1, 2).flatten(0, 1))
        done += run.count
    filler = row.rows - row.runs[-1].tokens.stop
    return torch.cat([*outputs, q.new_zeros(filler, *q.shape[1:])]).flatten(1)


def texts_of(part: Tensor, run: Run) -> Tensor:
    """[rows, heads, dim] -> [texts, heads, tokens, dim] of a run, without a copy."""
    texts = part[run.tokens].view(run.count, run.length, *part.shape[1:])
    return texts.transpose(1, 2)


def whole(output: Tensor, row: Row) -> Tensor:
    """[tokens, heads, dim] -> [rows, width]: references give no rows for filler, kernels leave them unwritten."""
    missing = row.rows - len(output)
    return (pad(output, (0, 0, 0, 0, 0, missing)) if missing else output).flatten(1)


def pairs_seen(length: int, window: int | None) -> int:
    """How many (query, key) pairs attention looks at: all, or those at most `window` apart."""
    if window is None or length <= window + 1:
        return length * length
    return length * (2 * window + 1) - window * (window + 1)
