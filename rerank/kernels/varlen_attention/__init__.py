"""Attention over sequences of different lengths that are packed into one row of tokens."""

from importlib.util import find_spec

from rerank.kernels.op import Op
from rerank.kernels.varlen_attention import native, reference

__all__ = ["first_token_attention", "varlen_attention"]

varlen_attention = Op(reference.varlen_attention)
first_token_attention = Op(reference.first_token_attention)

varlen_attention.add("native", native.varlen_attention, native.supports)
first_token_attention.add("native", native.first_token_attention, native.supports_first)

if find_spec("triton"):
    from rerank.kernels.varlen_attention import triton

    varlen_attention.add("triton", triton.varlen_attention, triton.supports)
