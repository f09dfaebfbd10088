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
    """Floating-point operations, two for each multiply-add, of what a pass executes."""

    per_token: int
    per_text: int
    windows: tuple[int | None, ...]  # of each layer
    width: int

    @classmethod
    def of(cls, model: Any, family: Family | None) -> ForwardCost:
        """Count the linear layers: those of the backbone's layers see tokens, all others see texts."""
        backbone = getattr(model, family.backbone) if family else model.base_model
        pooler = getattr(backbone, "pooler", None)
        pooled = set(pooler.modules()) if pooler is not None else set()
        inside = [module for module in backbone.modules() if isinstance(module, nn.Linear) and module not in pooled]
        everything = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
        per_token = sum(module.weight.numel() for module in inside)
        config = model.config
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        local = getattr(config, "sliding_window", None)
        windows = tuple(local if kind == "sliding_attention" else None for kind in kinds)
        heads = config.num_attention_heads
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        return cls(2 * per_token, 2 * (everything - per_token), windows, width)

    def flops(self, rows: int, sides: Sequence[int], heads: int) -> int:
        """Of one pass.

        Args:
            rows: token rows, filler included.
            sides: of the square that attention computes for each text.
            heads: rows that the head computes.
        """
        seen = sum(pairs_seen(side, window) for side in sides for window in self.windows)
        return self.per_token * rows + self.per_text * heads + 4 * self.width * seen


def pairs_seen(length: int, window: int | None) -> int:
    """How many (query, key) pairs attention looks at: all, or those at most `window` apart."""
    if window is None or length <= window + 1:
        return length * length
    return length * (2 * window + 1) - window * (window + 1)
