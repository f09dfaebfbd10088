"""What each term of the vocabulary weighs in each text."""

from __future__ import annotations

from importlib.util import find_spec

from rerank.kernels.op import Op
from rerank.kernels.splade_pool import reference

__all__ = ["splade_pool"]

splade_pool = Op(reference.splade_pool)
if find_spec("triton"):
    from rerank.kernels.splade_pool import triton

    splade_pool.add("triton", triton.splade_pool, triton.supports)
