"""The decoder of a T5 for few positions and many encoder states: cross-attention folded into the queries.

A decoder layer projects every encoder state to keys and values. With few queries it is cheaper to bring the projections
to their side: a score q · (W_k h) is (W_kᵀ q) · h, and a weighted sum Σ a_i W_v h_i is W_v (Σ a_i h_i). The states are
then read as they are, by each head, and no work is left that grows with the number of states but reading them.
This pays for up to about as many positions as a head is wide (64).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from rerank.engine.t5_encoder import Work, bias_line, fuse, weights

__all__ = ["FoldedDecoder", "Memory", "PaddedMemory", "Past", "RaggedMemory"]

KEPT = 64  # prefixes whose first self-attention is remembered

Past = list[tuple[Tensor, Tensor]]
"""Keys and values of the positions already decoded, of each layer: [rows, heads, positions, dim of a head]."""


class Memory(Protocol):
    """The encoder states that each decoder row attends to."""

    def attend(self, queries: Tensor) -> Tensor:
        """Attention with states as keys and values: [rows, queries, dim] -> [rows, queries, dim]."""
        ...

    @property
    def size(self) -> int:
        """States that one pass reads, padding included."""
        ...


class RaggedMemory:
    """States of different number, each row's on its own; rows beyond them are filler and come back as zeros."""

    def __init__(self, states: Sequence[Tensor]) -> None:
        self._states = dict(enumerate(states))

    def forget(self, row: int) -> None:
        """A row that has ended needs its states no more."""
        self._states.pop(row)

    @property
    def size(self) -> int:
        """States that one pass reads."""
        return sum(len(states) for states in self._states.values())

    def attend(self, queries: Tensor) -> Tensor:
        """Attention row by row, so that no row's bits depend on another's length."""
        output = torch.zeros_like(queries)
        for row, states in self._states.items():
            keys = states[None, None]
            output[row] = scaled_dot_product_attention(queries[row, None, None], keys, keys, scale=1.0)[0, 0]
        return output


class PaddedMemory:
    """States of different number in one rectangle, for devices that would rather compute than loop."""

    def __init__(self, states: Sequence[Tensor]) -> None:
        self._states = pad_sequence(list(states), batch_first=True)  # [rows, longest, dim]
        lengths = torch.tensor([len(one) for one in states], device=self._states.device)
        places = torch.arange(self._states.shape[1], device=self._states.device)
        self._hidden = (places >= lengths[:, None])[:, None]  # [rows, 1, longest]

    def forget(self, row: int) -> None:
        """A rectangle keeps its rows."""

    @property
    def size(self) -> int:
        """States that one pass reads, padding included."""
        return self._states.shape[0] * self._states.shape[1]

    def attend(self, queries: Tensor) -> Tensor:
        """Attention of all rows at once, its softmax in float32."""
        scores = torch.bmm(queries, self._states.mT).float().masked_fill(self._hidden, float("-inf"))
        return torch.bmm(scores.softmax(-1).to(queries.dtype), self._states)


@dataclass(frozen=True)
class _LayerWeights:
    """Weights that a row meets in a layer, counted before the layer is fused."""

    self_attention: int
    lone: int  # what is left of the self-attention of an only position
    after_self: int

    @classmethod
    def of(cls, block: Any) -> _LayerWeights:
        module = block.layer[0].SelfAttention
        return cls(weights(module), weights(module.v, module.o), weights(*block.layer[1:]))


class FoldedDecoder:
    """The decoder of a T5, mT5 or UMT5, a few positions at a time.

    Args:
        model: a transformers `…ForConditionalGeneration` in evaluation mode, with plain linear layers.
        fused: replace its linear layers by fused ones, in the model itself; the BLAS gives few rows other bits on one
            thread than on two.
    """

    def __init__(self, model: Any, *, fused: bool = False) -> None:
        self._stack = model.decoder
        self._weights = [_LayerWeights.of(block) for block in self._stack.block]
        attentions = [block.layer[0].SelfAttention for block in self._stack.block]
        self._lines = [bias_line(module) for module in attentions if module.has_relative_attention_bias]
        self._begun: dict[tuple[int, ...], Tensor] = {}
        if fused:
            for block in self._stack.block:
                fuse(block)

    def after(self, prefix: Sequence[int], rows: int, memory: Memory, work: Work) -> Tensor:
        """The last hidden state after the same few ids in every row: [rows, dim].

        The first layer's self-attention sees nothing but the prefix: it is computed once for each and kept.
        """
        key = tuple(prefix)
        if key not in self._begun:
            if len(self._begun) == KEPT:
                self._begun.clear()
            ids = torch.tensor([key] * rows, device=self._stack.device)
            self._begun[key] = self._attend_to_self(0, self._stack.embed_tokens(ids), None, Work())[:1]
        begun = self._begun[key].expand(rows, -1, -1)
        return self._layers(begun, memory, None, work, begun=True)

    def step(self, ids: Tensor, memory: Memory, past: Past, work: Work) -> Tensor:
        """The last hidden state after the ids [rows, positions], which follow those in `past`: [rows, dim].

        `past` is lengthened in place; the first step gives an empty list.
        """
        return self._layers(self._stack.embed_tokens(ids), memory, past, work)

    def _layers(self, hidden: Tensor, memory: Memory, past: Past | None, work: Work, *, begun: bool = False) -> Tensor:
        for index, block in enumerate(self._stack.block):
            if index > 0 or not begun:
                hidden = self._attend_to_self(index, hidden, past, work)
            if index == len(self._stack.block) - 1:
                hidden = hidden[:, -1:]  # nobody reads the others' last layer
            hidden = hidden + _attend_to_states(block.layer[1], hidden, memory, work)
            work.products(hidden.shape[0] * hidden.shape[1], self._weights[index].after_self)
            hidden = block.layer[-1](hidden)
        last: Tensor = self._stack.final_layer_norm(hidden)[:, -1]
        return last

    def _attend_to_self(self, index: int, hidden: Tensor, past: Past | None, work: Work) -> Tensor:
        """A layer's residual stream after its self-attention: [rows, positions, dim], same shape back."""
        layer = self._stack.block[index].layer[0]
        module = layer.SelfAttention
        normed = layer.layer_norm(hidden)
        rows, positions, _ = hidden.shape
        if past is None and positions == 1:  # the only position attends to itself
            work.products(rows, self._weights[index].lone)
            attended: Tensor = module.o(module.v(normed))
            return hidden + attended
        split = (rows, positions, module.n_heads, module.key_value_proj_dim)
        query, key, value = (layer(normed).view(split).transpose(1, 2) for layer in (module.q, module.k, module.v))
        if past is not None:
            key, value = _extend(past, index, key, value)
        bias = self._bias(min(index, len(self._lines) - 1), positions, key.shape[2])
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        work.products(rows * positions, self._weights[index].self_attention)
        work.attend(rows * positions * key.shape[2], module.inner_dim)
        attended = module.o(mixed.transpose(1, 2).reshape(rows, positions, -1))
        return hidden + attended

    def _bias(self, index: int, queries: int, keys: int) -> Tensor:
        """Position bias of the last `queries` of `keys` positions, −inf ahead of each: [1, heads, queries, keys]."""
        line = self._lines[index]
        reach = line.shape[1] // 2
        places = torch.arange(keys, device=line.device)
        apart = places - places[keys - queries :, None]  # [queries, keys]
        bias = line[:, apart.clamp(-reach, reach) + reach]
        return bias.masked_fill(apart > 0, float("-inf"))[None]


def _extend(past: Past, index: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    if index == len(past):
        past.append((key, value))
    else:
        past[index] = (torch.cat([past[index][0], key], 2), torch.cat([past[index][1], value], 2))
    return past[index]


def _attend_to_states(layer: Any, hidden: Tensor, memory: Memory, work: Work) -> Tensor:
    """A layer's cross-attention, folded: [rows, positions, dim] -> [rows, positions, dim]."""
    module = layer.EncDecAttention
    rows, positions, dim = hidden.shape
    heads, width = module.n_heads, module.key_value_proj_dim
    keys, values = (each.weight.view(heads, width, dim) for each in (module.k, module.v))
    query = module.q(layer.layer_norm(hidden)).view(rows * positions, heads, width).transpose(0, 1)
    folded = torch.bmm(query, keys).transpose(0, 1)  # [rows · positions, heads, dim]
    read = memory.attend(folded.reshape(rows, positions * heads, dim))
    mixed = torch.bmm(read.view(rows * positions, heads, dim).transpose(0, 1), values.mT)  # [heads, …, width]
    work.attend(memory.size * positions, heads * dim)
    projected: Tensor = module.o(mixed.transpose(0, 1).reshape(rows, positions, heads * width))
    return projected
