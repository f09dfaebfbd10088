"""The decoder of a T5 for few positions and many encoder states: cross-attention folded into the queries.

A decoder layer projects every encoder state to keys and values. With few queries it is cheaper to bring the projections
to their side: a score q · (W_k h) is (W_kᵀ q) · h, and a weighted sum Σ a_i W_v h_i is W_v (Σ a_i h_i). The states are
then read as they are, by each head, and no work is left that grows with the number of states but reading them.
This pays for up to about as many positions as a head is wide (64); for more, keys and values are made as ever.

Three ways of using it: the same few ids in every row (`after`), ids of its own in every row (`forced`), and one id
after the other in rows that begin and end when they like (`step`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rerank.engine import linear
from rerank.engine.packing import settled_rows
from rerank.engine.t5.encoder import Work, bias_line, fuse, weights
from rerank.engine.t5.memory import Memory, Project
from rerank.engine.t5.slots import Slots
from rerank.kernels.varlen_attention import varlen_attention

__all__ = ["DECODER_ROWS", "FoldedDecoder"]

DECODER_ROWS = 32
"""Rows of a settled pass where each row has the same number of positions."""

KEPT = 64  # prefixes whose first self-attention is remembered

Attend = Callable[[int, Any, Tensor], Tensor]
"""(layer, its self-attention, normed hidden states [rows, dim]) -> what is added to them, before the output matrix."""


@dataclass(frozen=True)
class _LayerWeights:
    """Weights that a row meets in a layer, counted before the layer is fused."""

    self_attention: int
    lone: int  # what is left of the self-attention of an only position
    cross: int  # of the matrices that make keys and values of a state
    after_self: int

    @classmethod
    def of(cls, block: Any) -> _LayerWeights:
        own, states = block.layer[0].SelfAttention, block.layer[1].EncDecAttention
        return cls(weights(own), weights(own.v, own.o), weights(states.k, states.v), weights(*block.layer[1:]))


class FoldedDecoder:
    """The decoder of a T5, mT5 or UMT5, a few positions at a time.

    Args:
        model: a transformers `…ForConditionalGeneration` in evaluation mode, with plain linear layers.
        fused: replace its linear layers by fused ones, in the model itself; the BLAS gives few rows other bits on one
            thread than on two.
        settled: compute so many rows at a time, and attend text by text, that a row's bits depend on nothing but the
            row; else all rows at once.
    """

    def __init__(self, model: Any, *, fused: bool = False, settled: bool = True) -> None:
        self._stack = model.decoder
        self.settled = settled
        self._weights = [_LayerWeights.of(block) for block in self._stack.block]
        attentions = [block.layer[0].SelfAttention for block in self._stack.block]
        self._biased = [module for module in attentions if module.has_relative_attention_bias]
        self._lines = [bias_line(module) for module in self._biased]
        self._widths = frozenset(each.out_features for each in self._stack.modules() if isinstance(each, nn.Linear))
        self._fused = fused
        self._projections: dict[int, tuple[Project, Project]] = {}
        self._begun: dict[tuple[int, ...], Tensor] = {}
        if fused:
            for block in self._stack.block:
                fuse(block)

    @property
    def folds_up_to(self) -> int:
        """The most positions for which p · heads · dim, folded, is less than inner · (dim + p), projected."""
        module = self._stack.block[0].layer[1].EncDecAttention
        dim, width = module.d_model, module.key_value_proj_dim
        return int(width * dim / (dim - width)) if dim > width else 2**31

    # -- the same ids in every row -----------------------------------------------------------------------------------

    def after(self, prefix: Sequence[int], rows: int, memory: Memory, work: Work) -> Tensor:
        """The last hidden state after the same few ids in every row: [rows, dim].

        The first layer's self-attention sees nothing but the prefix: it is computed once for each and kept.
        """
        key, count = tuple(prefix), len(prefix)
        if key not in self._begun:
            if len(self._begun) == KEPT:
                self._begun.clear()
            self._begun[key] = self._begin(key, rows)
        begun = self._begun[key].expand(rows, -1, -1).flatten(0, 1)
        return self._layers(begun, self._alike(count, work), memory, [count] * rows, work, begun=True, last=count)

    def _begin(self, prefix: tuple[int, ...], rows: int) -> Tensor:
        """A prefix after the first layer's self-attention: [1, positions, dim]."""
        hidden = self._embed([*prefix] * rows)
        layer = self._stack.block[0].layer[0]
        attended = self._alike(len(prefix), Work())(0, layer.SelfAttention, layer.layer_norm(hidden))
        begun: Tensor = hidden + layer.SelfAttention.o(attended)
        return begun[None, : len(prefix)]

    def _alike(self, count: int, work: Work) -> Attend:
        """Self-attention of rows that have equally many positions."""

        def attend(layer: int, module: Any, normed: Tensor) -> Tensor:
            if count == 1:  # the only position attends to itself
                work.products(len(normed), self._weights[layer].lone)
                value: Tensor = module.v(normed)
                return value
            split = (-1, count, module.n_heads, module.key_value_proj_dim)
            query, key, value = (each(normed).view(split).transpose(1, 2) for each in (module.q, module.k, module.v))
            causal = self._causal(layer, count)
            mixed = scaled_dot_product_attention(query, key, value, attn_mask=causal, scale=1.0)
            work.products(len(normed), self._weights[layer].self_attention)
            work.attend(len(normed) * count, module.inner_dim)
            return mixed.transpose(1, 2).reshape(len(normed), -1)

        return attend

    # -- ids of its own in every row ---------------------------------------------------------------------------------

    def forced(self, texts: Sequence[Sequence[int]], memory: Memory, work: Work, *, folded: bool = True) -> Tensor:
        """Hidden states at every position of some texts, each read by a row of its own: [positions, dim]."""
        counts = [len(text) for text in texts]
        real = sum(counts)
        rows = real
        if self.settled:
            fewest = linear.FEWEST_ROWS if self._fused else linear.SAFE_ROWS
            rows = settled_rows(max(real, fewest), self._widths, torch.get_num_threads())
        hidden = self._embed([*itertools.chain.from_iterable(texts)] + [0] * (rows - real))
        attend = self._apart(counts, work) if self.settled else self._packed(counts, work)
        return self._layers(hidden, attend, memory, counts, work, folded=folded)[:real]

    def _apart(self, counts: Sequence[int], work: Work) -> Attend:
        """Self-attention of rows that lie one after the other, row by row."""
        causal = [self._causal(index, max(counts)) for index in range(len(self._lines))]

        def attend(layer: int, module: Any, normed: Tensor) -> Tensor:
            split = (1, len(normed), module.n_heads, module.key_value_proj_dim)
            query, key, value = (each(normed).view(split).transpose(1, 2) for each in (module.q, module.k, module.v))
            output = torch.zeros(split[1:], dtype=query.dtype, device=query.device)
            bias = causal[min(layer, len(causal) - 1)]
            start = 0
            for count in counts:
                q, k, v = (each[:, :, start : start + count] for each in (query, key, value))
                mixed = scaled_dot_product_attention(q, k, v, attn_mask=bias[..., :count, :count], scale=1.0)
                output[start : start + count] = mixed[0].transpose(0, 1)
                start += count
            self._charge(layer, len(normed), counts, work)
            return output.flatten(1)

        return attend

    def _packed(self, counts: Sequence[int], work: Work) -> Attend:
        """The same by the op for packed rows, whose kernel wants the row of tokens as it is."""
        ends = torch.tensor([0, *itertools.accumulate(counts)], dtype=torch.int32, device=self._stack.device)

        def attend(layer: int, module: Any, normed: Tensor) -> Tensor:
            split = (len(normed), module.n_heads, module.key_value_proj_dim)
            parts = (each(normed).view(split) for each in (module.q, module.k, module.v))
            biased = self._biased[min(layer, len(self._biased) - 1)]
            table = biased.relative_attention_bias.weight.T
            distance = biased.relative_attention_max_distance
            mixed: Tensor = varlen_attention(
                *parts, ends, max(counts), causal=True, scale=1.0, bias=table, max_distance=distance
            )
            self._charge(layer, len(normed), counts, work)
            return mixed.flatten(1)

        return attend

    def _charge(self, layer: int, rows: int, counts: Sequence[int], work: Work) -> None:
        work.products(rows, self._weights[layer].self_attention)
        work.attend(sum(count**2 for count in counts), self._stack.block[layer].layer[0].SelfAttention.inner_dim)

    # -- one id after the other --------------------------------------------------------------------------------------

    def step(self, ids: Sequence[int], memory: Memory, slots: Slots, work: Work) -> Tensor:
        """The hidden state after one more id in every row: [rows, dim]; `slots` are lengthened."""

        def attend(layer: int, module: Any, normed: Tensor) -> Tensor:
            split = (len(normed), module.n_heads, module.key_value_proj_dim)
            query, key, value = (each(normed).view(split) for each in (module.q, module.k, module.v))
            work.products(len(normed), self._weights[layer].self_attention)
            line = self._lines[min(layer, len(self._lines) - 1)]
            return slots.attend(layer, query, key, value, line, work).flatten(1)

        hidden = self._layers(self._embed(ids), attend, memory, [1] * len(ids), work)
        slots.advance()
        return hidden

    # -- what the three share ----------------------------------------------------------------------------------------

    def _embed(self, ids: Sequence[int]) -> Tensor:
        hidden: Tensor = self._stack.embed_tokens(torch.tensor(ids, device=self._stack.device))
        return hidden

    def _layers(
        self,
        hidden: Tensor,
        attend: Attend,
        memory: Memory,
        counts: Sequence[int],
        work: Work,
        *,
        begun: bool = False,
        folded: bool = True,
        last: int = 1,
    ) -> Tensor:
        """All layers over rows that have `counts` positions each, one row after the other: [positions, dim], same back.

        Args:
            begun: the first layer's self-attention was computed before.
            folded: fold the cross-attention, rather than make keys and values.
            last: every so many positions one is wanted, the last; nobody reads the others' last layer.
        """
        for index, block in enumerate(self._stack.block):
            if index > 0 or not begun:
                own = block.layer[0]
                hidden = hidden + own.SelfAttention.o(attend(index, own.SelfAttention, own.layer_norm(hidden)))
            if index == len(self._stack.block) - 1 and last > 1:
                hidden, counts = hidden[last - 1 :: last], [1] * len(counts)
            normed = block.layer[1].layer_norm(hidden)
            hidden = hidden + self._attend_to_states(index, normed, memory, counts, work, folded)
            work.products(len(hidden), self._weights[index].after_self)
            hidden = block.layer[-1](hidden)
        output: Tensor = self._stack.final_layer_norm(hidden)
        return output

    def _attend_to_states(
        self, index: int, normed: Tensor, memory: Memory, counts: Sequence[int], work: Work, folded: bool
    ) -> Tensor:
        """A layer's cross-attention: [positions, dim] -> [positions, dim]."""
        module = self._stack.block[index].layer[1].EncDecAttention
        heads, width = module.n_heads, module.key_value_proj_dim
        query = module.q(normed)
        if folded:
            read = memory.attend(self._through(module.k, query, heads, into=True), counts)
            mixed = self._through(module.v, read.flatten(1), heads, into=False).flatten(1)
            work.attend(memory.pairs(counts), heads * module.d_model)
        else:
            key, value = self._project(index)
            mixed = memory.attend_projected(query.view(-1, heads, width), counts, key, value).flatten(1)
            # the weights of keys and values are counted once for each position below, as those of a folded pass are
            work.products(memory.size, self._weights[index].cross)
            work.products(-len(normed), self._weights[index].cross)
            work.attend(memory.pairs(counts), heads * width)
        output: Tensor = module.o(mixed)
        return output

    def _through(self, layer: nn.Linear, rows: Tensor, heads: int, *, into: bool) -> Tensor:
        """Queries through the matrix of keys, into the space of states, or what was read of them out through values'.

        [positions, heads · width] -> [positions, heads, dim], or [positions, heads · dim] -> [positions, heads, width].
        """
        matrix = layer.weight.view(heads, -1, layer.in_features)  # [heads, width, dim]
        matrix = matrix if into else matrix.mT

        def through(part: Tensor) -> Tensor:
            each = part.view(len(part), heads, -1).transpose(0, 1)
            return torch.bmm(each, matrix).transpose(0, 1).reshape(len(part), -1)

        if self.settled:
            filler = -len(rows) % DECODER_ROWS
            parts = torch.split(nn.functional.pad(rows, (0, 0, 0, filler)), DECODER_ROWS)
            return torch.cat([through(part) for part in parts])[: len(rows)].view(len(rows), heads, -1)
        return through(rows).view(len(rows), heads, -1)

    def _project(self, index: int) -> tuple[Project, Project]:
        """What makes keys and values of states; fused layers, where there are, are made when first wanted."""
        module = self._stack.block[index].layer[1].EncDecAttention
        if index not in self._projections:
            made = (linear.FusedLinear(each) if self._fused else each for each in (module.k, module.v))
            self._projections[index] = (_never_alone(next(made)), _never_alone(next(made)))
        return self._projections[index]

    def _causal(self, layer: int, count: int) -> Tensor:
        """Position bias of so many positions, −inf ahead of each: [1, heads, count, count]."""
        line = self._lines[min(layer, len(self._lines) - 1)]
        reach = line.shape[1] // 2
        places = torch.arange(count, device=line.device)
        apart = places - places[:, None]  # [queries, keys]
        bias = line[:, apart.clamp(-reach, reach) + reach]
        return bias.masked_fill(apart > 0, float("-inf"))[None]


def _never_alone(layer: Callable[[Tensor], Tensor]) -> Project:
    """oneDNN and the BLAS treat a single row differently; it gets another of zeros."""

    def project(states: Tensor) -> Tensor:
        if states.shape[-2] > 1:
            return layer(states)
        return layer(nn.functional.pad(states, (0, 0, 0, 1)))[..., :1, :]

    return project
