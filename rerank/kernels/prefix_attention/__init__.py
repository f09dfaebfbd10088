"""Attention of suffixes to prefixes that several of them share, and causally to themselves."""

from importlib.util import find_spec

from rerank.kernels.op import Op
from rerank.kernels.prefix_attention import reference

__all__ = ["prefix_attention"]

prefix_attention = Op(reference.prefix_attention)

if find_spec("triton"):
    from rerank.kernels.prefix_attention import triton

    prefix_attention.add("triton", triton.prefix_attention, triton.supports)
