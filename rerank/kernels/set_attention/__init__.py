"""Attention of documents to themselves and to one token of every other document of their query."""

from importlib.util import find_spec

from rerank.kernels.op import Op
from rerank.kernels.set_attention import by_document, native, reference

__all__ = ["first_token_set_attention", "set_attention"]

set_attention = Op(reference.set_attention)
first_token_set_attention = Op(reference.first_token_set_attention)

set_attention.add("by document", by_document.set_attention, by_document.supports)
first_token_set_attention.add("by document", by_document.first_token_set_attention, by_document.supports)
set_attention.add("native", native.set_attention, native.supports)
first_token_set_attention.add("native", native.first_token_set_attention, native.supports)

if find_spec("triton"):
    from rerank.kernels.set_attention import triton

    set_attention.add("triton", triton.set_attention, triton.supports)
