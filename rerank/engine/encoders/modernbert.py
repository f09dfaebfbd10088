"""ModernBERT's layers: normalised input, a rotary embedding, local attention in most layers, a gated feed-forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rerank.engine.encoders.layers import Layer
from rerank.engine.encoders.row import Row

__all__ = ["PreNorm", "Rotary", "unsupported"]


class Rotary(nn.Module):
    """The rotary embedding of one kind of layer: a table of all places, computed as transformers computes it.

    Args:
        backbone: a `ModernBertModel`.
        kind: "full_attention" or "sliding_attention"; each has its own frequencies.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, backbone: Any, kind: str) -> None:
        super().__init__()
        places = torch.arange(backbone.config.max_position_embeddings, device=backbone.device)[None]
        cos, sin = backbone.rotary_emb(torch.zeros((), dtype=backbone.dtype, device=backbone.device), places, kind)
        self.register_buffer("cos", cos[0, :, None], persistent=False)  # [places, 1, dim]
        self.register_buffer("sin", sin[0, :, None], persistent=False)

    def forward(self, part: Tensor, row: Row) -> Tensor:
        """Turn queries or keys by their place: [rows, heads, dim], in float32 as transformers does."""
        exact = part.float()
        left, right = exact.chunk(2, -1)
        half = torch.cat((-right, left), -1)
        return (exact * self.cos[row.places] + half * self.sin[row.places]).to(part.dtype)


class PreNorm(Layer):
    """A layer of ModernBERT's shape: each half reads its normalised input.

    Args:
        layer: of transformers.
        heads: of attention.
        attention: of `encoders.attention`.
        rotary: shared by the layers of its kind.
    """

    def __init__(self, layer: Any, heads: int, attention: nn.Module, rotary: Rotary) -> None:
        super().__init__(layer.attn.Wqkv, heads, attention)
        self.norm, self.outward = layer.attn_norm, layer.attn.Wo
        self.mlp_norm, self.mlp = layer.mlp_norm, layer.mlp
        self.rotary = rotary

    def before(self, hidden: Tensor) -> Tensor:
        """The normalised input."""
        normed: Tensor = self.norm(hidden)
        return normed

    def turned(self, part: Tensor, row: Row) -> Tensor:
        """After the rotary embedding."""
        turned: Tensor = self.rotary(part, row)
        return turned

    def finish(self, context: Tensor, hidden: Tensor) -> Tensor:
        """Output projection, and the gated feed-forward half."""
        hidden = hidden + self.outward(context)
        output: Tensor = hidden + self.mlp(self.mlp_norm(hidden))
        return output


def unsupported(config: Any) -> str | None:
    """Why a ModernBERT cannot be taken apart, or None."""
    kinds = {parameters["rope_type"] for parameters in config.rope_parameters.values() if parameters}
    changing = kinds & {"dynamic", "longrope"}
    return f"its {changing.pop()} rotary embedding depends on the longest text of a batch" if changing else None
