"""DeBERTa's attention: content to content, content to position and position to content."""

from importlib.util import find_spec

from rerank.kernels.disentangled_attention import reference
from rerank.kernels.op import Op

__all__ = ["disentangled_attention"]

disentangled_attention = Op(reference.disentangled_attention)

if find_spec("triton"):
    from rerank.kernels.disentangled_attention import triton

    disentangled_attention.add("triton", triton.disentangled_attention, triton.supports)
