"""Losses over padded lists. The Triton provider is there for the asking: `with ranknet.using("triton"): ...`.

It is never chosen by itself, because it has not been measured against plain torch on a GPU, and such small losses may
gain nothing from it.
"""

from __future__ import annotations

from importlib.util import find_spec

from rerank.kernels.list_losses import reference
from rerank.kernels.op import Op

__all__ = ["lambdarank", "listmle", "ranknet"]

ranknet = Op(reference.ranknet)
lambdarank = Op(reference.lambdarank)
listmle = Op(reference.listmle)


if find_spec("triton"):
    from rerank.kernels.list_losses import triton

    ranknet.add("triton", triton.ranknet, triton.supports, when_asked=True)
    lambdarank.add("triton", triton.lambdarank, triton.supports, when_asked=True)
    listmle.add("triton", triton.listmle, triton.supports, when_asked=True)
