"""Late interaction over ragged documents, with or without taking the best of them."""

from __future__ import annotations

from importlib.util import find_spec

from rerank.kernels.maxsim import reference
from rerank.kernels.op import Op

__all__ = ["maxsim", "maxsim_top"]

maxsim = Op(reference.maxsim)
maxsim_top = Op(reference.maxsim_top)
if find_spec("triton"):
    from rerank.kernels.maxsim import triton

    maxsim.add("triton", triton.maxsim, triton.supports)
    maxsim_top.add("triton", triton.maxsim_top, triton.supports)
