"""A residual connection and a layer norm on x86 CPUs in float32: `native/add_norm.c`."""

from __future__ import annotations

from ctypes import Structure, c_float, c_int64, c_void_p

import torch
from torch import Tensor

from rerank.kernels import native

__all__ = ["add_norm", "supports"]

STEP = 32  # floats that a pass over a row takes at once


class _AddNorm(Structure):
    """`add_norm` of add_norm.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("x", "residual", "weight", "bias", "output")),
        *((name, c_int64) for name in ("rows", "width", "x_row", "residual_row")),
        ("epsilon", c_float),
    )


def add_norm(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float) -> Tensor:
    """As the reference."""
    rows, width = x.shape
    output = torch.empty_like(x, memory_format=torch.contiguous_format)
    library = native.library()
    assert library is not None
    pointers = (x.data_ptr(), residual.data_ptr(), weight.data_ptr(), None if bias is None else bias.data_ptr())
    sizes = (rows, width, x.stride(0), residual.stride(0))
    library.run("rerank_add_norm", _AddNorm(*pointers, output.data_ptr(), *sizes, epsilon))
    return output


def supports(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float) -> bool:
    """float32 rows on a CPU for which there is a library, a multiple of 32 wide."""
    tensors = (x, residual, weight, *(() if bias is None else (bias,)))
    return (
        x.dim() == 2
        and x.shape == residual.shape
        and x.shape[1] % STEP == 0
        and all(tensor.stride(-1) == 1 for tensor in tensors)
        and native.takes(*tensors)
    )
