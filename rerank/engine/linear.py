"""Linear layers for x86 CPUs in float32: oneDNN, weights laid out once, bias and activation in the product's epilogue.

Two things are better than with torch's own linear layer, which is a BLAS product: no pass over the output for the bias
or the activation, and the bits of a row do not depend on how many rows there are, from two rows upwards (the BLAS needs
`SAFE_ROWS` for that). Both were measured, and the second is tested.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FEWEST_ROWS", "SAFE_ROWS", "FusedLinear", "available", "fuse"]

FEWEST_ROWS = 64
"""Rows that a pass through fused layers is given at least: well above the one that oneDNN treats differently."""

SAFE_ROWS = 512
"""Rows from which the BLAS behind `nn.Linear` chooses the same blocking for any number of them."""

LAYOUT_ROWS = 1024  # what the layout of the weights is chosen for


class FusedLinear(nn.Module):
    """activation(x Wᵀ + b).

    Args:
        linear: the layer to replace; its weights are copied into oneDNN's own layout.
        activation: "none", "gelu" (exact) or "gelu tanh".
    """

    def __init__(self, linear: nn.Linear, activation: str = "none") -> None:
        super().__init__()
        reorder: Any = torch.ops.mkldnn._reorder_linear_weight
        self.weight = reorder(linear.weight.detach(), LAYOUT_ROWS)
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.activation = activation.partition(" ")[0]
        self.algorithm = {"none": "", "gelu": "none", "gelu tanh": "tanh"}[activation]

    def forward(self, rows: Tensor) -> Tensor:
        """[…, in] -> […, out]."""
        linear: Any = torch.ops.mkldnn._linear_pointwise
        output: Tensor = linear(rows, self.weight, self.bias, self.activation, [], self.algorithm)
        return output


def available(model: Any) -> bool:
    """Whether this model's layers can be fused on this machine."""
    return (
        model.dtype == torch.float32
        and model.device.type == "cpu"
        and platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def fuse(module: nn.Module) -> None:
    """Replace every linear layer within a module, and the GELU behind an `up` projection."""
    from transformers.activations import GELUActivation

    for child in module.modules():
        if isinstance(getattr(child, "up", None), nn.Linear) and isinstance(child.activation, GELUActivation):
            child.up = FusedLinear(child.up, "gelu")  # type: ignore[arg-type]
            child.activation = nn.Identity()
    for child in list(module.modules()):
        for name, linear in child.named_children():
            if type(linear) is nn.Linear:
                setattr(child, name, FusedLinear(linear))
