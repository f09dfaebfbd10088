"""The encoder of a T5: all texts in one row, with attention and position bias within each; or padded as it comes.

T5 adds to each attention score a learned number that depends on the distance between the two tokens alone. Its own
forward writes that out as a [heads, tokens, tokens] array, of a packed row over its whole length. Here the numbers
stay in one line per head, from the farthest token behind to the farthest ahead; a text whose queries are taken in
reverse order reads its square of biases from that line through strides of one, so the square is never built.
A GPU reads the same numbers inside its attention kernel (`varlen_attention`).
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
from rerank.engine.packing import in_order, settled_rows
from rerank.errors import InputError
from rerank.kernels.varlen_attention import varlen_attention

__all__ = [
    "After",
    "PackedEncoder",
    "PaddedEncoder",
    "VarlenEncoder",
    "Work",
    "bias_line",
    "fuse",
    "rectangle",
    "weights",
]


After = Callable[[int, Tensor], None]
"""(layer, hidden states of all texts [rows, dim], which it may change): called behind each layer."""

PASS_ROWS = 4096
"""Rows of a deterministic pass on a GPU, whose products are split by their shape."""


@dataclass
class Work:
    """What a call computed: token rows of the encoder, and floating-point operations, two for each multiply-add."""

    rows: int = 0
    flops: int = 0

    def products(self, rows: int, weights: int) -> None:
        """So many rows through matrices of so many weights."""
        self.flops += 2 * rows * weights

    def attend(self, pairs: int, width: int) -> None:
        """Scores and weighted sums of so many (query, key) pairs, over all heads `width` channels wide."""
        self.flops += 4 * pairs * width


class PackedEncoder:
    """The encoder of a T5, mT5 or UMT5 over many texts in one row.

    On x86 CPUs in float32 its linear layers are replaced by fused ones (`linear.py`), in the model itself.

    Args:
        model: a transformers `…ForConditionalGeneration` in evaluation mode, with plain linear layers.
    """

    def __init__(self, model: Any) -> None:
        self._stack = model.encoder
        attentions = [block.layer[0].SelfAttention for block in self._stack.block]
        self._lines = [bias_line(module) for module in attentions if module.has_relative_attention_bias]
        self._weights = [weights(block) for block in self._stack.block]
        self._widths = frozenset(each.out_features for each in self._stack.modules() if isinstance(each, nn.Linear))
        self.fused = linear.available(model)
        if self.fused:
            for block in self._stack.block:
                fuse(block)

    def encode(self, texts: Sequence[Sequence[int]], work: Work, after: After | None = None) -> Tensor:
        """Hidden states of all texts, one after the other: [tokens, dim]; filler rows are cut off."""
        lengths = [len(text) for text in texts]
        real = sum(lengths)
        fewest = linear.FEWEST_ROWS if self.fused else linear.SAFE_ROWS
        rows = settled_rows(max(real, fewest), self._widths, torch.get_num_threads())
        ids = torch.tensor([*itertools.chain.from_iterable(texts)] + [0] * (rows - real))
        hidden = self._stack.embed_tokens(ids)  # [rows, dim]
        biases = [_squares(line, lengths) for line in self._lines]
        for index, block in enumerate(self._stack.block):
            attention, feed = block.layer[0], block.layer[-1]
            bias = biases[min(index, len(biases) - 1)]  # UMT5 has one for each layer, T5 the first layer's for all
            hidden = hidden + _attend(attention.SelfAttention, attention.layer_norm(hidden), bias, lengths)
            hidden = feed(hidden)
            if after is not None:
                after(index, hidden)
            work.products(rows, self._weights[index])
            work.attend(sum(length**2 for length in lengths), attention.SelfAttention.inner_dim)
        work.rows += rows
        states: Tensor = self._stack.final_layer_norm(hidden)[:real]
        return states


class VarlenEncoder:
    """The same row of texts with attention by the `varlen_attention` op, and linear layers as they are.

    Args:
        model: as for `PackedEncoder`.
        settled: encode in passes of `PASS_ROWS` rows, filled up, so that every product has the same shape whatever
            the batch; a longer text goes alone, in rows that depend on its own length.
    """

    fused = False

    def __init__(self, model: Any, *, settled: bool = False) -> None:
        self._stack = model.encoder
        self._settled = settled
        self._weights = [weights(block) for block in self._stack.block]
        attentions = [block.layer[0].SelfAttention for block in self._stack.block]
        self._biased = [module for module in attentions if module.has_relative_attention_bias]

    def encode(self, texts: Sequence[Sequence[int]], work: Work, after: After | None = None) -> Tensor:
        """Hidden states of all texts, one after the other: [tokens, dim]."""
        if not self._settled:
            return self._pass(texts, 0, work, after)
        if after is not None:
            raise InputError("deterministic passes on a GPU cannot let texts see each other; leave deterministic out")
        lengths = [len(text) for text in texts]
        batches = in_order(lengths, PASS_ROWS)
        return torch.cat([self._pass([texts[i] for i in batch], PASS_ROWS, work) for batch in batches])

    def _pass(self, texts: Sequence[Sequence[int]], unit: int, work: Work, after: After | None = None) -> Tensor:
        lengths = [len(text) for text in texts]
        real, longest = sum(lengths), max(lengths)
        filler = -real % unit if unit else 0
        device = self._stack.device
        ids = torch.tensor([*itertools.chain.from_iterable(texts)] + [0] * filler, device=device)
        ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
        hidden = self._stack.embed_tokens(ids)  # [rows, dim]
        for index, block in enumerate(self._stack.block):
            layer = block.layer[0]
            hidden = hidden + self._attend(index, layer.layer_norm(hidden), ends, longest, real)
            hidden = block.layer[-1](hidden)
            if after is not None:
                after(index, hidden)
            work.products(len(ids), self._weights[index])
            work.attend(sum(length**2 for length in lengths), layer.SelfAttention.inner_dim)
        work.rows += len(ids)
        states: Tensor = self._stack.final_layer_norm(hidden)[:real]
        return states

    def _attend(self, index: int, normed: Tensor, ends: Tensor, longest: int, real: int) -> Tensor:
        """Self-attention of a layer; filler rows attend to nothing."""
        module = self._stack.block[index].layer[0].SelfAttention
        biased = self._biased[min(index, len(self._biased) - 1)]
        split = (len(normed), module.n_heads, module.key_value_proj_dim)
        query, key, value = (each(normed).view(split)[:real] for each in (module.q, module.k, module.v))
        mixed: Tensor = varlen_attention(
            query, key, value, ends, longest, scale=1.0,
            bias=biased.relative_attention_bias.weight.T, max_distance=biased.relative_attention_max_distance,
        )  # fmt: skip
        output: Tensor = module.o(nn.functional.pad(mixed.flatten(1), (0, 0, 0, len(normed) - real)))
        return output


class PaddedEncoder:
    """transformers' own encoder over a rectangle of texts, for devices where a loop over texts costs more."""

    fused = False

    def __init__(self, model: Any) -> None:
        self._stack = model.encoder

    def encode(self, texts: Sequence[Sequence[int]], work: Work, after: After | None = None) -> Tensor:
        """Hidden states of all texts, one after the other: [tokens, dim]; padding is cut off."""
        if after is not None:
            raise InputError("transformers' own encoder cannot let texts see each other; use mode 'packed' or 'varlen'")
        ids, mask = rectangle(texts, self._stack.device)
        hidden: Tensor = self._stack(input_ids=ids, attention_mask=mask).last_hidden_state
        for block in self._stack.block:
            work.products(ids.numel(), weights(block))
            work.attend(ids.numel() * ids.shape[1], block.layer[0].SelfAttention.inner_dim)
        work.rows += ids.numel()
        return hidden[mask.bool()]


def rectangle(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids filled up to the longest, and which of them are real: [texts, longest] both."""
    longest = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=device)
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts], device=device)
    return ids, mask


def weights(*modules: nn.Module) -> int:
    """How many weights the linear layers inside these modules have."""
    inside = [inner for module in modules for inner in module.modules() if isinstance(inner, nn.Linear)]
    return sum(layer.weight.numel() for layer in inside)


def fuse(block: Any) -> None:
    """Fuse a layer's linear layers, and T5 v1.1's GELU into the one before it.

    What the cross-attention makes keys and values with stays as it is: the decoder reads those weights themselves.
    """
    dense = block.layer[-1].DenseReluDense
    if isinstance(dense.act, nn.GELU) and hasattr(dense, "wi_0"):
        dense.wi_0 = linear.FusedLinear(dense.wi_0, "gelu tanh")
        dense.act = nn.Identity()
    linear.fuse(block.layer[0])
    linear.fuse(block.layer[-1])
    if len(block.layer) == 3:
        cross = block.layer[1].EncDecAttention
        cross.q, cross.o = linear.FusedLinear(cross.q), linear.FusedLinear(cross.o)


def bias_line(module: Any) -> Tensor:
    """A layer's position bias at key − query = −D … D: [heads, 2·D + 1], where D is the farthest it tells apart.

    It is computed once and at one size: a logarithm in the last place of a vector may fall into another bucket.
    """
    farthest = module.relative_attention_max_distance
    with torch.no_grad():
        line: Tensor = module.compute_bias(1, 2 * farthest + 1, past_seen_tokens=farthest)[0, :, 0]
    return line.contiguous()


def _squares(line: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """For each text the biases of its queries, the last query first: views [1, heads, length, length]."""
    heads, reach = line.shape[0], line.shape[1] // 2
    longest = max(max(lengths), reach + 1)
    beyond = longest - 1 - reach  # distances that share the bias of the farthest
    ends = [line[:, :1].expand(heads, beyond), line, line[:, -1:].expand(heads, beyond)]
    whole = torch.cat(ends, 1)  # [heads, 2 · longest − 1]: distances 1 − longest … longest − 1
    stride = whole.shape[1]
    # query length−1−i sees key j at the distance j + i − (length − 1): one step on for either
    return [whole.as_strided((1, heads, n, n), (0, stride, 1, 1), longest - n) for n in lengths]


def _attend(module: Any, normed: Tensor, biases: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """Self-attention within each text: [rows, dim] -> [rows, dim]; what filler rows attend to is zeros."""
    split = (1, len(normed), module.n_heads, module.key_value_proj_dim)
    query, key, value = (layer(normed).view(split).transpose(1, 2) for layer in (module.q, module.k, module.v))
    output = torch.zeros(split[1:], dtype=query.dtype, device=query.device)
    start = 0
    for bias, length in zip(biases, lengths, strict=True):
        text = slice(start, start + length)
        reverse = query[:, :, text].flip(2)
        attended = scaled_dot_product_attention(reverse, key[:, :, text], value[:, :, text], attn_mask=bias, scale=1.0)
        output[text] = attended[0].flip(1).transpose(0, 1)
        start += length
    projected: Tensor = module.o(output.flatten(1))
    return projected
