"""Attention of packed rows by native kernels (`rerank.kernels.native`): all texts in one call, on the CPU too."""

from __future__ import annotations

import torch
from torch import Tensor

from rerank.engine.encoders.attention import TextAttention, whole
from rerank.engine.encoders.layers import Backbone, Layer
from rerank.engine.encoders.row import Row
from rerank.kernels import native
from rerank.kernels.varlen_attention import first_token_attention, varlen_attention

__all__ = ["NativeAttention", "attend_natively"]

DIMS = 32
"""What a head's size must be a multiple of."""


class NativeAttention(TextAttention):
    """As its base; a text's bits depend on itself alone here too, and filler is zeros."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[rows, heads, dim] -> [rows, width]."""
        return whole(varlen_attention(q, k, v, row.ends, row.longest, window=self.window), row)

    def first(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[texts, heads, dim], [rows, heads, dim] -> [texts, width]."""
        output: Tensor = first_token_attention(q, k, v, row.ends, row.longest, window=self.window)
        return output.flatten(1)


def attend_natively(backbone: Backbone) -> bool:
    """Let native kernels attend where layers attend text by text; False when none does, or there are no kernels."""
    weight = next(backbone.parameters())
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or native.library() is None:
        return False
    able = [layer for layer in backbone.layers if isinstance(layer, Layer) and _able(layer)]
    for layer in able:
        layer.attention = NativeAttention(layer.attention.window)  # type: ignore[arg-type]
    return bool(able)


def _able(layer: Layer) -> bool:
    return type(layer.attention) is TextAttention and layer.width // layer.heads % DIMS == 0
