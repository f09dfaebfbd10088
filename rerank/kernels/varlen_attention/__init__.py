"""Attention over sequences of different lengths that are packed into one row of tokens."""

from importlib.util import find_spec

from rerank.kernels.op import Op
from rerank.kernels.varlen_attention import reference

__all__ = ["varlen_attention"]

varlen_attention = Op(reference.varlen_attention)

if find_spec("triton"):
    from rerank.kernels.varlen_attention import triton

    varlen_attention.add("triton", triton.varlen_attention, triton.supports)
