"""Losses over padded lists. The Triton provider is there for the asking: `with ranknet.using("triton"): ...`.

It is never chosen by itself, because it has not been measured against plain torch on a GPU, and such small losses may
gain nothing from it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from rerank.kernels.list_losses import reference
from rerank.kernels.op import Op

__all__ = ["lambdarank", "listmle", "ranknet"]

ranknet = Op(reference.ranknet)
lambdarank = Op(reference.lambdarank)
listmle = Op(reference.listmle)


def _never(*args: Any, **options: Any) -> bool:
    """TODO: `triton.supports` instead, once workload K3 has shown on a GPU that these are faster."""
    return False


if find_spec("triton"):
    from rerank.kernels.list_losses import triton

    ranknet.add("triton", triton.ranknet, _never)
    lambdarank.add("triton", triton.lambdarank, _never)
    listmle.add("triton", triton.listmle, _never)
