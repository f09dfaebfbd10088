"""A residual connection and the layer norm behind it, in one pass."""

from rerank.kernels.add_norm import native, reference
from rerank.kernels.op import Op

__all__ = ["add_norm"]

add_norm = Op(reference.add_norm)
add_norm.add("native", native.add_norm, native.supports)
