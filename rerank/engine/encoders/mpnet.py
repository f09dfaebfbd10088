"""MPNet's attention: a bias for every relative distance, the same in all layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rerank.engine.encoders.attention import by_run, pairs_seen, texts_of
from rerank.engine.encoders.row import Row
from rerank.kernels.varlen_attention.reference import relative_buckets

__all__ = ["BUCKETS", "BiasedAttention", "RelativeBias"]

BUCKETS = 32  # transformers reads no other number, whatever the config says
MAX_DISTANCE = 128


class RelativeBias(nn.Module):
    """The bias of each (query, key) pair of a text, [heads, tokens, tokens]: computed once and shared by all layers.

    A shorter text's is the corner of a longer one's, so only the largest so far is kept.

    Args:
        table: [heads, buckets].
    """

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table
        self._largest = table.new_zeros(len(table), 0, 0)

    def forward(self, length: int) -> Tensor:
        """[heads, length, length], a view."""
        if length > self._largest.shape[1]:
            self._largest = self._bias(max(64, 1 << (length - 1).bit_length()))
        return self._largest[:, :length, :length]

    def _bias(self, length: int) -> Tensor:
        places = torch.arange(length, device=self.table.device)
        buckets = relative_buckets(places[None, :] - places[:, None], BUCKETS, MAX_DISTANCE, bidirectional=True)
        return self.table[:, buckets].contiguous()


class BiasedAttention(nn.Module):
    """Attention text by text, with a bias: see `encoders.attention.TextAttention`."""

    def __init__(self, bias: RelativeBias) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[rows, heads, dim] -> [rows, width]."""
        return by_run(q, k, v, row, lambda length: self.bias(length)[None])

    def first(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[texts, heads, dim], [rows, heads, dim] -> [texts, width]."""
        outputs = []
        done = 0
        for run in row.runs:
            queries = q[done : done + run.count].unsqueeze(2)
            mask = self.bias(run.length)[None, :, :1]
            outputs.append(scaled_dot_product_attention(queries, texts_of(k, run), texts_of(v, run), attn_mask=mask))
            done += run.count
        return torch.cat(outputs).flatten(1)

    def products(self, length: int) -> int:
        """Multiply-adds for each channel: scores and values."""
        return 2 * pairs_seen(length, None)

    def first_products(self, length: int) -> int:
        """Those of the first token alone."""
        return 2 * length
