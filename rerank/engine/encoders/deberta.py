"""DeBERTa-v2's attention between content and relative positions, text by text; and its convolution.

The definition is the op `disentangled_attention`; its tables of positions are constants once a model is loaded. On the
CPU they are laid out by distance, so that a product with a slice of them holds, shifted by one column a row, the scores
of a text: reading it with other strides is all the gathering there is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rerank.engine.encoders.attention import whole
from rerank.engine.encoders.layers import bias_of, linear_of
from rerank.engine.encoders.row import Row
from rerank.kernels.disentangled_attention.reference import position_rows

__all__ = ["ConvolvedLayer", "DisentangledAttention", "PositionTables", "VarlenDisentangled", "unsupported"]


class PositionTables:
    """One layer's projected embeddings of relative positions.

    Args:
        attention: a `DisentangledSelfAttention`.
        embeddings: of relative positions as the encoder gives them, [2 * span, hidden]; None: it has none.
    """

    def __init__(self, attention: Any, embeddings: Tensor | None) -> None:
        self.heads: int = attention.num_attention_heads
        self.dim: int = attention.attention_head_size
        self.key: Tensor | None = None
        self.query: Tensor | None = None
        self.buckets, self.max_distance = 0, 0
        if embeddings is not None:
            self.buckets, self.max_distance = attention.position_buckets, attention.max_relative_positions
            shared = attention.share_att_key
            if "c2p" in attention.pos_att_type:
                self.key = self._project(attention.key_proj if shared else attention.pos_key_proj, embeddings)
            if "p2c" in attention.pos_att_type:
                self.query = self._project(attention.query_proj if shared else attention.pos_query_proj, embeddings)

    @property
    def terms(self) -> int:
        """Terms between content and positions: 0, 1 or 2."""
        return (self.key is not None) + (self.query is not None)

    @property
    def scale(self) -> float:
        """Of the scores."""
        return float((self.dim * (1 + self.terms)) ** -0.5)

    def by_distance(self, table: Tensor, longest: int) -> Tensor:
        """[2 * span, heads, dim] -> [heads, 2 * longest - 1, dim], scaled; from distance 1 - longest on."""
        rows = position_rows(longest, self.buckets, self.max_distance).to(table.device)
        return (table[rows].transpose(0, 1) * self.scale).contiguous()

    def _project(self, linear: nn.Module, embeddings: Tensor) -> Tensor:
        projected: Tensor = linear(embeddings).detach()
        return projected.view(-1, self.heads, self.dim)


class DisentangledAttention(nn.Module):
    """Text by text: see `encoders.attention.TextAttention`.

    Args:
        tables: of this layer.
        longest: tokens of the longest text there can be.
    """

    def __init__(self, tables: PositionTables, longest: int) -> None:
        super().__init__()
        self.scale, self.terms, self.longest = tables.scale, tables.terms, longest
        # a column of the first counts key minus query, one of the second query minus key
        self.to_position = None if tables.key is None else tables.by_distance(tables.key, longest).flip(1)
        self.from_position = None if tables.query is None else tables.by_distance(tables.query, longest)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[rows, heads, dim] -> [rows, width]."""
        outputs = []
        for tokens in _texts(row):
            queries, keys, values = (part[tokens].transpose(0, 1) for part in (q, k, v))  # [heads, tokens, dim]
            outputs.append(self._attended(queries, keys, values, self._bias(queries, keys)))
        filler = row.rows - row.runs[-1].tokens.stop
        return torch.cat([*outputs, q.new_zeros(filler, q.shape[1] * q.shape[2])])

    def first(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[texts, heads, dim], [rows, heads, dim] -> [texts, width]."""
        outputs = []
        for query, tokens in zip(q, _texts(row), strict=True):
            keys, values = (part[tokens].transpose(0, 1) for part in (k, v))
            outputs.append(self._attended(query[:, None], keys, values, self._first_bias(query[:, None], keys)))
        return torch.cat(outputs)

    def products(self, length: int) -> int:
        """Multiply-adds for each channel: scores, values, and a product with every distance for each term."""
        return 2 * length * length + self.terms * length * (2 * length - 1)

    def first_products(self, length: int) -> int:
        """Those of the first token alone."""
        return (2 + self.terms) * length

    def _attended(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """[heads, queries, dim] -> [queries, width]."""
        mask = None if bias is None else bias[None]
        attended = scaled_dot_product_attention(
            queries[None], keys[None], values[None], attn_mask=mask, scale=self.scale
        )
        return attended[0].transpose(0, 1).flatten(1)

    def _bias(self, queries: Tensor, keys: Tensor) -> Tensor | None:
        """The scores between content and positions: [heads, queries, keys], or None."""
        length = queries.shape[1]
        distances = slice(self.longest - length, self.longest + length - 1)
        bias: Tensor | None = None
        if self.to_position is not None:
            bias = _shifted(queries @ self.to_position[:, distances].transpose(1, 2)).contiguous()
        if self.from_position is not None:
            from_position = _shifted(keys @ self.from_position[:, distances].transpose(1, 2)).transpose(1, 2)
            bias = from_position.contiguous() if bias is None else bias.add_(from_position)
        return bias

    def _first_bias(self, queries: Tensor, keys: Tensor) -> Tensor | None:
        """The same for a text's first token: [heads, 1, keys], or None."""
        length = keys.shape[1]
        bias: Tensor | None = None
        if self.to_position is not None:
            after = self.to_position[:, self.longest - 1 : self.longest - 1 + length]
            bias = queries @ after.transpose(1, 2)
        if self.from_position is not None:
            before = self.from_position[:, self.longest - length : self.longest].flip(1)
            from_position = (keys * before).sum(-1).unsqueeze(1)
            bias = from_position if bias is None else bias + from_position
        return bias


class VarlenDisentangled(nn.Module):
    """All texts in one call of the op `disentangled_attention`.

    Args:
        tables: of this layer.
    """

    def __init__(self, tables: PositionTables) -> None:
        super().__init__()
        self.key, self.query, self.terms = tables.key, tables.query, tables.terms
        self.options = {"buckets": tables.buckets, "max_distance": tables.max_distance}

    def forward(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[rows, heads, dim] -> [rows, width]."""
        from rerank.kernels.disentangled_attention import disentangled_attention

        output = disentangled_attention(q, k, v, self.key, self.query, row.ends, row.longest, **self.options)
        return whole(output, row)

    def products(self, length: int) -> int:
        """Multiply-adds for each channel, with a product for each distance that the text has."""
        return 2 * length * length + self.terms * length * (2 * length - 1)


class ConvolvedLayer(nn.Module):
    """The first layer of a DeBERTa-v2 with a convolution over neighbouring tokens beside it.

    Args:
        layer: the layer; its input is what the convolution reads.
        convolution: transformers' `ConvLayer`, in one group.
    """

    def __init__(self, layer: nn.Module, convolution: Any) -> None:
        super().__init__()
        self.layer = layer
        self.activation, self.norm = _activation(convolution.conv_act), convolution.LayerNorm
        weight = convolution.conv.weight.detach()  # [out, in, neighbours]
        self.reach = weight.shape[2] // 2
        # as a linear layer over neighbours side by side it has the bits of linear layers
        self.linear: nn.Module = linear_of(weight.transpose(1, 2).flatten(1).contiguous(), bias_of(convolution.conv))

    def forward(self, hidden: Tensor, row: Row) -> Tensor:
        """[rows, hidden] -> [rows, hidden]."""
        convolved = self.activation(self.linear(self._neighbours(hidden, row)))
        output: Tensor = self.norm(self.layer(hidden, row) + convolved)
        return output

    def _neighbours(self, hidden: Tensor, row: Row) -> Tensor:
        """Each token's neighbours in its own text, zeros beyond it: [rows, neighbours * hidden]."""
        places = torch.arange(row.rows, device=hidden.device)
        text = torch.bucketize(places, row.ends.long(), right=True)
        parts = []
        for offset in range(-self.reach, self.reach + 1):
            there = (places + offset).clamp(0, row.rows - 1)
            same = (text[there] == text) & (there == places + offset)
            parts.append(hidden[there].where(same[:, None], 0.0))
        return torch.cat(parts, 1)


def unsupported(config: Any) -> str | None:
    """Why a DeBERTa-v2 cannot be taken apart, or None."""
    kernel, groups = getattr(config, "conv_kernel_size", 0), getattr(config, "conv_groups", 1)
    if kernel > 0 and (kernel % 2 == 0 or groups != 1):
        return f"its convolution has {kernel} neighbours in {groups} groups"
    if not getattr(config, "relative_attention", False) and config.pos_att_type:
        return "it scales for positions that it has not"
    return None


def _texts(row: Row) -> list[slice]:
    """Where each text lies."""
    starts = ((run.start + index * run.length, run.length) for run in row.runs for index in range(run.count))
    return [slice(start, start + length) for start, length in starts]


def _shifted(scores: Tensor) -> Tensor:
    """[heads, rows, 2 * rows - 1], by distance -> [heads, rows, rows], by place: a view of fresh contiguous scores."""
    heads, rows, columns = scores.shape
    return scores.as_strided((heads, rows, rows), (rows * columns, columns - 1, 1), rows - 1)


def _activation(name: str) -> Any:
    from transformers.activations import ACT2FN

    return ACT2FN[name]
