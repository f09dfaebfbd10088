"""Floating-point operations, counted from what is executed: two for each multiply-add of a matrix product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from rerank.engine.encoders.attention import TextAttention
from rerank.engine.encoders.layers import Backbone, Layer

__all__ = ["ForwardCost"]

Products = Callable[[Any], int]
"""(tokens of a text; for sets, with how many tokens of others it sees) -> multiply-adds of its attention, for each
channel."""


@dataclass(frozen=True)
class ForwardCost:
    """Floating-point operations of what a pass executes.

    Args:
        per_token: of the linear layers that see every token row.
        per_text: of those that see one row for each text: the head, and most of a last layer cut to first tokens.
        attention: how many layers attend in each way.
        width: heads times head size.
    """

    per_token: int
    per_text: int
    attention: tuple[tuple[Products, int], ...]
    width: int

    @classmethod
    def of_model(cls, model: Any) -> ForwardCost:
        """A model's own forward; what some families add to plain attention is not counted."""
        seen_by_tokens = _size(_linears(model.base_model, without=getattr(model.base_model, "pooler", None)))
        everything = _size(_linears(model))
        config = model.config
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        local = getattr(config, "sliding_window", None)
        windows = Counter(local if kind == "sliding_attention" else None for kind in kinds)
        heads = config.num_attention_heads
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        attention = tuple((TextAttention(window).products, count) for window, count in windows.items())
        return cls(2 * seen_by_tokens, 2 * (everything - seen_by_tokens), attention, width)

    @classmethod
    def of_backbone(cls, backbone: Backbone, head: int, *, first: bool) -> ForwardCost:
        """A backbone as we run it, before its layers are fused.

        Args:
            backbone: taken apart, and its last layer cut when it is to be.
            head: weights of what sees one row for each text beside the backbone.
            first: whether the last layer is computed for first tokens alone.
        """
        if not len(backbone.layers):
            return cls(0, 2 * head, (), 0)
        last = backbone.layers[-1]
        assert not first or isinstance(last, Layer)
        everything = _size(_linears(backbone))
        per_text = _size(_linears(last, without=last.inward)) if first else 0  # type: ignore[arg-type]
        whole = backbone.layers[:-1] if first and last.query is not None else backbone.layers
        attending = Counter(_attention(layer).products for layer in whole)
        if len(whole) < len(backbone.layers):
            attending[_attention(last).first_products] += 1
        width = next(module.width for module in backbone.modules() if isinstance(module, Layer))
        return cls(2 * (everything - per_text), 2 * (per_text + head), tuple(attending.items()), width)

    def flops(self, rows: int, sides: Sequence[Hashable], heads: int) -> int:
        """Of one pass.

        Args:
            rows: token rows, filler included.
            sides: of the square that attention computes for each text; what its layers' `products` take.
            heads: rows that the head computes.
        """
        texts = Counter(sides)
        products = sum(
            layers * sum(texts[side] * of_text(side) for side in texts) for of_text, layers in self.attention
        )
        return self.per_token * rows + self.per_text * heads + 2 * self.width * products


def _attention(layer: nn.Module) -> Any:
    return next(module.attention for module in layer.modules() if isinstance(module, Layer))


def _linears(module: nn.Module, without: nn.Module | None = None) -> Iterable[nn.Linear]:
    left_out = set(without.modules()) if without is not None else set()
    return [child for child in module.modules() if isinstance(child, nn.Linear) and child not in left_out]


def _size(linears: Iterable[nn.Linear]) -> int:
    return sum(linear.weight.numel() for linear in linears)
