"""What a forward pass costs by the closed form that papers on LLM rerankers report: pure arithmetic on a model's shape.

Peng et al., 2025, "Efficiency-Effectiveness Reranking FLOPs for LLM-based Rerankers", https://arxiv.org/abs/2507.06223.
It is kept as published, so that figures can be compared with the paper's, and it differs from what is executed: grouped
queries divide the work on attention scores, which they do not; the third matrix of a gated feed-forward layer, the
output head and the embeddings are left out; nothing is reused, padded or skipped. The ledger's `flops` are counted from
what was executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rerank.errors import InputError

__all__ = ["Shape", "estimated_flops"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the closed form wants to know of a model.

    Args:
        layers: of the encoder or the decoder; an encoder-decoder has so many of each.
        width: of the hidden states.
        feed_forward: inner width of the feed-forward layers.
        group: query heads for each head of keys and values; 1 without grouping.
        encoder_decoder: whether tokens are read by an encoder and written by a decoder that looks at it.
    """

    layers: int
    width: int
    feed_forward: int
    group: float = 1
    encoder_decoder: bool = False

    def __post_init__(self) -> None:
        if min(self.layers, self.width, self.feed_forward) < 1 or not self.group >= 1:
            raise InputError(f"{self} is no model's shape; all of it is at least 1")

    @classmethod
    def of(cls, config: Any) -> Shape | None:
        """The shape in a transformers config; None when it does not tell."""
        config = getattr(config, "text_config", None) or config
        layers = _first(config, "num_hidden_layers", "num_layers")
        width = _first(config, "hidden_size", "d_model")
        feed_forward = _first(config, "intermediate_size", "d_ff")
        if layers is None or width is None or feed_forward is None:
            return None
        heads = _first(config, "num_attention_heads", "num_heads") or 1
        shared = _first(config, "num_key_value_heads") or heads
        return cls(layers, width, feed_forward, heads / shared, bool(getattr(config, "is_encoder_decoder", False)))


def estimated_flops(shape: Shape, read: int, written: int = 0) -> int:
    """The closed form for one prompt.

    Args:
        shape: of the model.
        read: tokens of the prompt, n in the paper.
        written: tokens that are decoded, m in the paper; 0 for a classifier, 1 for the one step of an encoder-decoder
            that scores.

    Returns:
        Floating-point operations, two for each multiply-add, as a whole number.
    """
    layers, width, group = shape.layers, shape.width, shape.group
    if shape.encoder_decoder:
        encoder: float = 2 * width * layers * (2 * width + shape.feed_forward)  # weights
        decoder: float = 2 * width * layers * (3 * width + shape.feed_forward)
        crossing = 4 * layers * read * width * width
    else:
        encoder = decoder = 2 * width * layers * ((1 + 1 / group) * width + shape.feed_forward)
        crossing = 0
    reading = 2 * encoder * read + 4 * layers * read**2 * width / group
    seen = 2 * written * read + written * (written - 1)
    writing = 2 * decoder * written + 2 * layers * width / group * seen
    return round(reading + crossing + writing)


def _first(config: Any, *names: str) -> int | None:
    return next((value for name in names if type(value := getattr(config, name, None)) is int), None)
