"""What Triton kernels share: where they can run, and a softmax that is built up tile by tile of keys."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = [
    "INTERPRET",
    "LN_2",
    "LOG2_E",
    "absorb",
    "attention_runs_here",
    "attention_tiles",
    "dot",
    "runs_here",
    "settled",
    "soft_cap",
    "wants_gradients",
]

INTERPRET = tl.constexpr(triton.knobs.runtime.interpret)
LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


def runs_here(*tensors: Tensor | None) -> bool:
    """Whether kernels can take these: they are on a GPU, or kernels are interpreted (TRITON_INTERPRET=1)."""
    return INTERPRET.value or all(tensor is None or tensor.is_cuda for tensor in tensors)


def attention_runs_here(*tensors: Tensor) -> bool:
    """Whether attention kernels can take these queries, keys, values: heads of a known size, alike, whole."""
    return (
        runs_here(*tensors)
        and {tensor.dtype for tensor in tensors} in ({torch.float32}, {torch.float16}, {torch.bfloat16})
        and all(tensor.shape[-1] in (32, 64, 128, 256) and tensor.stride(-1) == 1 for tensor in tensors)
    )


def wants_gradients(*tensors: Tensor | None) -> bool:
    """Whether autograd will ask for the gradient of any of these."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def attention_tiles(dim: int, element_size: int) -> dict[str, int]:
    """Queries and keys a tile, warps and stages of an attention kernel with heads of this size.

    A stage holds a tile of keys and one of values in shared memory, and warps hold the scores and a tile of output in
    registers: chosen so that nothing spills in 16 bits, and little in 32, where there are no tensor cores to use. The
    interpreter's tiles are the smallest that `tl.dot` takes, so that tiny inputs still have several.
    """
    if INTERPRET.value:
        return {"BLOCK_Q": 16, "BLOCK_K": 16}
    if element_size == 4:
        return {"BLOCK_Q": 32, "BLOCK_K": 32, "num_warps": 8 if dim > 64 else 4, "num_stages": 1}
    return {"BLOCK_Q": 64, "BLOCK_K": 64 if dim <= 128 else 32, "num_warps": 8 if dim > 64 else 4, "num_stages": 2}


@triton.jit
def dot(a, b):
    """a @ b, float32."""
    if INTERPRET:  # numpy knows no bfloat16: it would multiply the bits as if they were integers
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def soft_cap(scores, cap):
    """cap · tanh(scores / cap); Triton has a sigmoid everywhere, and tanh(x) = 2 σ(2x) − 1."""
    return cap * (2.0 * tl.sigmoid(2.0 * scores / cap) - 1.0)


@triton.jit
def absorb(scores, values, best, total, mixed):
    """Take one more tile of keys into a running softmax.

    scores: float32 [rows, keys] in units of log2, -inf where a key is not seen; values: [keys, dim];
    best, total: float32 [rows]; mixed: float32 [rows, dim].
    """
    higher = tl.maximum(best, tl.max(scores, 1))
    # a row that has seen nothing yet is still at -inf, and -inf - -inf would be nan
    shift = tl.where(higher == float("-inf"), 0.0, higher)
    weight = tl.exp2(scores - shift[:, None])
    fade = tl.exp2(best - shift)
    mixed = mixed * fade[:, None] + dot(weight.to(values.dtype), values)
    return higher, total * fade + tl.sum(weight, 1), mixed


@triton.jit
def settled(best, total, mixed):
    """The output and the log-sum-exp (natural) of a running softmax; 0 and -inf where nothing was seen."""
    some = total > 0
    safe = tl.where(some, total, 1.0)
    return mixed / safe[:, None], tl.where(some, (best + tl.log2(safe)) * LN_2, float("-inf"))
