"""How much attention query tokens pay to each token, or each document, of a long context."""

from importlib.util import find_spec

from rerank.kernels.attention_mass import reference
from rerank.kernels.op import Op

__all__ = ["attention_mass"]

attention_mass = Op(reference.attention_mass)

if find_spec("triton"):
    from rerank.kernels.attention_mass import triton

    attention_mass.add("triton", triton.attention_mass, triton.supports)
