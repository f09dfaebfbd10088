"""What the kernels over an output head or over token vectors share: a tile of inner products."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rerank.kernels.tile import INTERPRET

__all__ = ["are_floats", "in_float32", "inner_products", "size"]


def size(real: int) -> int:
    """The side of a tile: `real` on a GPU; in the interpreter the smallest there is, so that tiny inputs have many."""
    return 16 if INTERPRET.value else real


def are_floats(*tensors: Tensor) -> bool:
    """Whether all hold floats that kernels compute with; they have no float64."""
    return all(tensor.dtype in (torch.float32, torch.float16, torch.bfloat16) for tensor in tensors)


def in_float32(*tensors: Tensor) -> bool:
    """Whether a product of these needs its operands in float32.

    It does when they are that already or differ, and for floats in the interpreter, whose product of two bfloat16 tiles
    is wrong by ten orders of magnitude without a word. int8 is multiplied as it is everywhere, which is exact.
    """
    dtypes = {tensor.dtype for tensor in tensors}
    return len(dtypes) > 1 or torch.float32 in dtypes or (INTERPRET.value and dtypes != {torch.int8})


@triton.jit
def inner_products(rows, row_live, columns, column_live, dim, FLOAT32: tl.constexpr, DIM: tl.constexpr):
    """All inner products of some vectors with some others, accumulated in float32: [ROWS, COLUMNS].

    `rows` and `columns` point to the first number of each vector, whose `dim` numbers lie side by side; those that are
    not live are read as zeros.
    """
    total = tl.zeros([rows.shape[0], columns.shape[0]], dtype=tl.float32)
    for start in range(0, dim, DIM):
        place = start + tl.arange(0, DIM)
        live = place < dim
        left = tl.load(rows[:, None] + place[None, :], mask=row_live[:, None] & live[None, :], other=0)
        right = tl.load(columns[None, :] + place[:, None], mask=column_live[None, :] & live[:, None], other=0)
        if FLOAT32:
            left = left.to(tl.float32)
            right = right.to(tl.float32)
        if left.dtype == tl.int8:
            total += tl.dot(left, right, out_dtype=tl.int32).to(tl.float32)
        else:
            # "ieee": TF32 would keep 10 bits of what the caller gave as float32
            total = tl.dot(left, right, acc=total, input_precision="ieee")
    return total
