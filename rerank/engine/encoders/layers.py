"""Layers and backbones as we run them: transformers' own modules, taken apart where attention is.

Queries, keys and values are one product; attention is a module of `encoders.attention`; the last layer can be computed
for first tokens alone, which is all that a score reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from rerank.engine.encoders.attention import beginnings
from rerank.engine.encoders.row import Row
from rerank.kernels.add_norm import add_norm

__all__ = ["HEAD_ROWS", "Backbone", "Layer", "PostNorm", "in_fixed_rows", "joined"]

HEAD_ROWS = 32
"""Rows of everything that is computed once a text: always so many, so that bits do not depend on their number."""


class Layer(nn.Module):
    """One layer: `project`, attention, `finish`.

    Args:
        inward: hidden -> queries, keys and values, [3 * heads * dim, hidden].
        heads: of each of the three.
        attention: of `encoders.attention`.
    """

    def __init__(self, inward: nn.Linear, heads: int, attention: nn.Module) -> None:
        super().__init__()
        self.inward: nn.Module = inward
        self.query: nn.Module | None = None
        self.heads = heads
        self.attention = attention
        self.width = inward.out_features // 3

    def before(self, hidden: Tensor) -> Tensor:
        """What queries, keys and values are projected from."""
        return hidden

    def turned(self, part: Tensor, row: Row) -> Tensor:
        """Queries or keys after a rotary embedding, where there is one."""
        return part

    def finish(self, context: Tensor, hidden: Tensor) -> Tensor:
        """All that comes after attention, row by row."""
        raise NotImplementedError

    def forward(self, hidden: Tensor, row: Row) -> Tensor:
        """[rows, hidden] -> [rows, hidden]."""
        return self.finish(self.attend(hidden, row), hidden)

    def attend(self, hidden: Tensor, row: Row) -> Tensor:
        """[rows, hidden] -> [rows, width]."""
        q, k, v = self._split(self.inward(self.before(hidden)), 3)
        q, k = self.turned(q, row), self.turned(k, row)
        if row.seen is not None:
            return beginnings(q, k, v, row, self.attention.window)  # type: ignore[arg-type]
        context: Tensor = self.attention(q, k, v, row)
        return context

    def cut(self) -> None:
        """Prepare for `first`: queries, and the rest, get products of their own."""
        assert isinstance(self.inward, nn.Linear)
        self.query = part_of(self.inward, 0, self.width)
        self.inward = part_of(self.inward, self.width, 3 * self.width)

    def first(self, hidden: Tensor, row: Row) -> Tensor:
        """[rows, hidden] -> [texts, hidden]: keys and values of every token, all else for first tokens alone."""
        rows = row.first
        if self.query is None:  # attention gives every token's context in one call
            return self.finish(self.attend(hidden, row)[rows], hidden[rows])
        before = self.before(hidden)
        # a rotary embedding turns the first token by nothing
        [q] = self._split(in_fixed_rows(self.query, before[rows]), 1)
        k, v = self._split(self.inward(before), 2)
        context = self.attention.first(q, self.turned(k, row), v, row)  # type: ignore[operator]
        return in_fixed_rows(self.finish, context, hidden[rows])

    def _split(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[rows, parts * width] -> parts times [rows, heads, dim], views."""
        return tuple(projected.view(len(projected), parts, self.heads, -1).unbind(1))


class PostNorm(Layer):
    """BERT's shape: each half of a layer is normalised after its input has been added."""

    def __init__(
        self,
        inward: nn.Linear,
        heads: int,
        attention: nn.Module,
        *,
        outward: nn.Module,
        attention_norm: nn.Module,
        up: nn.Module,
        activation: nn.Module,
        down: nn.Module,
        output_norm: nn.Module,
    ) -> None:
        super().__init__(inward, heads, attention)
        self.outward, self.attention_norm = outward, attention_norm
        self.up, self.activation, self.down, self.output_norm = up, activation, down, output_norm

    def finish(self, context: Tensor, hidden: Tensor) -> Tensor:
        """Output projection, and the feed-forward half."""
        attended = _normed_sum(self.attention_norm, self.outward(context), hidden)
        return _normed_sum(self.output_norm, self.down(self.activation(self.up(attended))), attended)


def _normed_sum(norm: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    """The norm of x + residual, in one pass where there is a kernel for that."""
    if torch.compiler.is_compiling() or type(norm) is not nn.LayerNorm:
        plain: Tensor = norm(x + residual)
        return plain
    fused: Tensor = add_norm(x, residual, norm.weight, norm.bias, norm.eps)
    return fused


class Backbone(nn.Module):
    """A stack of layers over embeddings.

    Args:
        embeddings: transformers' module.
        layers: at least one.
        first_place: the position of a text's first token; None: the embeddings take no positions.
        types: kinds of tokens that the embeddings know; 0: they take none.
        project: from the size of embeddings to that of layers, or None.
        norm: after the last layer, or None.
    """

    def __init__(
        self,
        embeddings: nn.Module,
        layers: Iterable[nn.Module],
        *,
        first_place: int | None = 0,
        types: int = 0,
        project: nn.Module | None = None,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embeddings, self.project, self.norm = embeddings, project, norm
        self.first_place, self.types = first_place, types
        self.layers = nn.ModuleList(layers)

    def forward(self, row: Row) -> Tensor:
        """The hidden states of every token: [rows, hidden]."""
        return self._normed(self._through(self.layers, row))

    def first(self, row: Row) -> Tensor:
        """The hidden states of every text's first token: [texts, hidden]."""
        hidden = self._through(self.layers[:-1], row)
        return self._normed(self.layers[-1].first(hidden, row))  # type: ignore[operator]

    def until(self, row: Row, last: int) -> Tensor:
        """What the last so many layers read: [rows, hidden]."""
        return self._through(self.layers[: len(self.layers) - last], row)

    def onwards(self, hidden: Tensor, row: Row, last: int, *, first: bool) -> Tensor:
        """States through the last so many layers: of every token, or of first tokens alone."""
        *between, final = self.layers[len(self.layers) - last :]
        for layer in between:
            hidden = layer(hidden, row)
        return self._normed(final.first(hidden, row) if first else final(hidden, row))  # type: ignore[operator]

    def _through(self, layers: Iterable[nn.Module], row: Row) -> Tensor:
        hidden = self._embed(row)
        for layer in layers:
            hidden = layer(hidden, row)
        return hidden

    def _embed(self, row: Row) -> Tensor:
        inputs = {"input_ids": row.ids[None]}
        if self.first_place is not None:
            inputs["position_ids"] = (row.places + self.first_place)[None]
        if self.types:
            inputs["token_type_ids"] = (row.types if self.types > 1 else torch.zeros_like(row.ids))[None]
        hidden: Tensor = self.embeddings(**inputs)[0]
        return hidden if self.project is None else self.project(hidden)

    def _normed(self, hidden: Tensor) -> Tensor:
        return hidden if self.norm is None else self.norm(hidden)


def joined(*linears: nn.Linear) -> nn.Linear:
    """One linear layer that gives what several would, side by side."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    return linear_of(weight, torch.cat([bias_of(linear) for linear in linears]))


def part_of(linear: nn.Linear, start: int, stop: int) -> nn.Linear:
    """A linear layer that gives some of the outputs of another."""
    bias = None if linear.bias is None else linear.bias.detach()[start:stop].clone()
    return linear_of(linear.weight.detach()[start:stop].clone(), bias)


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with these weights: [out, in], [out]."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear


def bias_of(linear: nn.Linear) -> Tensor:
    """The bias, or the zeros that stand for none."""
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias.detach()


def in_fixed_rows(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Apply a function of rows to `HEAD_ROWS` of them at a time, so that bits do not depend on how many there are.

    What is missing from the last `HEAD_ROWS` is filled up with zeros: [rows, …] -> [rows, …].
    """
    outputs = []
    for parts in zip(*(torch.split(rows, HEAD_ROWS) for rows in inputs), strict=True):
        count = len(parts[0])
        filled = [nn.functional.pad(part, (0, 0, 0, HEAD_ROWS - count)) for part in parts]
        outputs.append(function(*filled)[:count])
    return torch.cat(outputs)
