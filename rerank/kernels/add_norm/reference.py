"""A residual connection and the layer norm behind it: the definition."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import layer_norm

__all__ = ["add_norm"]


def add_norm(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float) -> Tensor:
    """LayerNorm(x + residual), over the last axis.

    Args:
        x, residual: [rows, width].
        weight, bias: [width]; the bias may be None.
        epsilon: added to the variance.

    Returns:
        [rows, width].
    """
    return layer_norm(x + residual, weight.shape, weight, bias, epsilon)
