"""torch.compile for what follows attention in a layer: products, activation and norms, for any number of rows."""

from __future__ import annotations

import torch

from rerank.engine.encoders.layers import Backbone, Layer

__all__ = ["compile_layers"]


def compile_layers(backbone: Backbone) -> None:
    """Compile each layer's rows after attention; layers of equal shape share what is compiled.

    The first passes take long: C++ or Triton code is written and compiled then. A pass computes the same to 1e-4, but
    the last bits of a score may change with its batch.
    """
    for layer in backbone.modules():
        if isinstance(layer, Layer):
            layer.finish = torch.compile(layer.finish, dynamic=True)  # type: ignore[method-assign]
