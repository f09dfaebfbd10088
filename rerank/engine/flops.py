"""Floating-point operations, counted from what is executed: two for each multiply-add of a matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from rerank.engine.families import Family

__all__ = ["ForwardCost", "pairs_seen"]


@dataclass(frozen=True)
class ForwardCost:
    """Floating-point operations of what a pass executes.

    Args:
        per_token: of the linear layers that see every token row.
        per_text: of those that see one row for each text: the head, and most of a last layer cut to first tokens.
        windows: the attention window of each layer that attends with every token; None sees the whole text.
        first_token_layers: layers that attend with the first token alone.
        width: heads times head size.
    """

    per_token: int
    per_text: int
    windows: tuple[int | None, ...]
    first_token_layers: int
    width: int

    @classmethod
    def of(cls, model: Any, family: Family | None) -> ForwardCost:
        """Count the linear layers of a model as the encoder runs it."""
        backbone = getattr(model, family.backbone) if family else model.base_model
        seen_by_tokens = [module for module in backbone.modules() if isinstance(module, nn.Linear)]
        if (pooler := getattr(backbone, "pooler", None)) is not None:
            pooled = set(pooler.modules())
            seen_by_tokens = [module for module in seen_by_tokens if module not in pooled]
        last = getattr(model, "last_layer", None)
        if last is not None:
            seen_by_tokens += [last.attention.self.key, last.attention.self.value]
        everything = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
        per_token = sum(module.weight.numel() for module in seen_by_tokens)
        config = model.config
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        local = getattr(config, "sliding_window", None)
        windows = [local if kind == "sliding_attention" else None for kind in kinds]
        cut = int(last is not None)
        heads = config.num_attention_heads
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        whole = tuple(windows[: len(windows) - cut])
        return cls(2 * per_token, 2 * (everything - per_token), whole, cut, width)

    def flops(self, rows: int, sides: Sequence[int], heads: int) -> int:
        """Of one pass.

        Args:
            rows: token rows, filler included.
            sides: of the square that attention computes for each text.
            heads: rows that the head computes.
        """
        seen = sum(pairs_seen(side, window) for side in sides for window in self.windows)
        seen += self.first_token_layers * sum(sides)
        return self.per_token * rows + self.per_text * heads + 4 * self.width * seen


def pairs_seen(length: int, window: int | None) -> int:
    """How many (query, key) pairs attention looks at: all, or those at most `window` apart."""
    if window is None or length <= window + 1:
        return length * length
    return length * (2 * window + 1) - window * (window + 1)
