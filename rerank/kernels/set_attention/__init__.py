"""Attention of documents to themselves and to one token of every other document of their query."""

from importlib.util import find_spec

from rerank.kernels.op import Op
from rerank.kernels.set_attention import reference

__all__ = ["set_attention"]

set_attention = Op(reference.set_attention)

if find_spec("triton"):
    from rerank.kernels.set_attention import triton

    set_attention.add("triton", triton.set_attention, triton.supports)
