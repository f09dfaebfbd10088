"""Attention between texts: the first tokens of a set's texts see each other behind the last encoder layers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from rerank.engine import linear

if TYPE_CHECKING:
    from rerank.engine.t5.encoder import After, Work

__all__ = ["Across"]

ROWS = 32  # the products see whole numbers of so many rows, so that threads and lone texts change no bit


class Across:
    """The global attention of Fusion-in-T5 (Yu et al., 2023, https://arxiv.org/abs/2305.14685).

    Behind each of the last encoder layers the state x of every text's first token becomes 2 x + A(N(x)): A is
    self-attention over the set's first tokens without positions, N its layer norm, and x counts twice because the
    published code adds the residual inside its layer and once more outside.

    Args:
        layers: transformers' `T5LayerSelfAttention`, one for each of the last layers, in order.
        blocks: encoder layers that the model has.
    """

    def __init__(self, layers: Sequence[Any], blocks: int) -> None:
        self._layers = list(layers)
        self._first = blocks - len(layers)
        self._weights = [sum(parameter.numel() for parameter in layer.SelfAttention.parameters()) for layer in layers]
        if linear.available(self._layers[0].SelfAttention.q.weight):
            for layer in self._layers:
                linear.fuse(layer)

    def behind(self, groups: Sequence[Sequence[Sequence[int]]], work: Work) -> After:
        """What happens to the states of these groups of texts, which lie one after the other, behind a layer."""
        lengths = [len(text) for group in groups for text in group]
        starts = iter([0, *itertools.accumulate(lengths)][:-1])
        firsts = [[*itertools.islice(starts, len(group))] for group in groups]

        def after(block: int, hidden: Tensor) -> None:
            if (index := block - self._first) < 0:
                return
            for rows in firsts:
                place = torch.tensor(rows, device=hidden.device)
                hidden[place] = self._seen(index, hidden[place], work)

        return after

    def _seen(self, index: int, states: Tensor, work: Work) -> Tensor:
        """The first tokens' states after they saw each other: [texts, dim], same back."""
        layer, count = self._layers[index], len(states)
        module = layer.SelfAttention
        rows = pad(states, (0, 0, 0, -count % ROWS))
        normed = layer.layer_norm(rows)
        split = (1, len(rows), module.n_heads, module.key_value_proj_dim)
        query, key, value = (
            each(normed).view(split).transpose(1, 2)[:, :, :count] for each in (module.q, module.k, module.v)
        )
        mixed = scaled_dot_product_attention(query, key, value, scale=1.0)[0].transpose(0, 1).reshape(count, -1)
        work.products(len(rows), self._weights[index])
        work.attend(count**2, module.inner_dim)
        added: Tensor = module.o(pad(mixed, (0, 0, 0, -count % ROWS)))[:count]
        return 2 * states + added
