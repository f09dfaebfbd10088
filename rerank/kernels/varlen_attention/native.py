"""Attention over packed sequences on x86 CPUs in float32: `native/attention.c`."""

from __future__ import annotations

import math
from ctypes import Structure, c_float, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rerank.errors import InputError
from rerank.kernels import native
from rerank.kernels.varlen_attention.reference import relative_buckets

__all__ = ["Others", "attend", "first_token_attention", "runs_here", "supports", "supports_first", "varlen_attention"]

POINTERS = ("q", "k", "v", "output", "q_starts", "k_starts", "bias", "shared", "seen")
STRIDES = ("q_token", "q_head", "k_token", "k_head", "v_token", "v_head")
SIZES = (*STRIDES, "texts", "heads", "group", "dim", "longest", "others")

NO_MEMORY = 1


class _Attention(Structure):
    """`attention` of attention.c."""

    _fields_ = (
        *((name, c_void_p) for name in POINTERS),
        *((name, c_int64) for name in SIZES),
        ("scale", c_float),
        ("window", c_int64),
        ("causal", c_int64),
    )


@dataclass(frozen=True)
class Others:
    """What texts see of each other.

    Args:
        shared: int32 [shown], rows of keys and values.
        seen: int32 [texts, 3]: the first of `shared` that a text sees, the end, and which of them is its own and is
            left out, or -1.
        most: the most that a text sees.
    """

    shared: Tensor
    seen: Tensor
    most: int


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    *,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    cap: float | None = None,
    bias: Tensor | None = None,
    max_distance: int = 128,
    return_lse: bool = False,
) -> Tensor:
    """As the reference; rows of q beyond the last sequence come back as zeros."""
    del cap, return_lse  # neither can be had here, as `supports` says
    table = None if bias is None else _by_distance(bias, longest, max_distance, bidirectional=not causal)
    return attend(q, k, v, cu_seqlens, cu_seqlens, longest, causal=causal, window=window, scale=scale, table=table)


def first_token_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    *,
    window: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """As the reference."""
    rows = torch.arange(len(cu_seqlens), dtype=torch.int32)
    return attend(q, k, v, rows, cu_seqlens, longest, window=window, scale=scale)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_starts: Tensor,
    k_starts: Tensor,
    longest: int,
    *,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    table: Tensor | None = None,
    others: Others | None = None,
) -> Tensor:
    """Attention of rows `q_starts` of q to rows `k_starts` of k and v, text by text, and to what it sees of others.

    Args:
        table: the bias of every distance, or None.
        others: without window, order and bias alone.
    """
    assert int(q_starts[-1]) <= len(q) and int(k_starts[-1]) <= min(len(k), len(v))  # noqa: PT018
    rows, heads, dim = q.shape
    output = q.new_empty((rows, heads, dim))
    output[int(q_starts[-1]) :].zero_()
    library = native.library()
    assert library is not None
    shown = (None, None) if others is None else (others.shared, others.seen)
    tensors = (q, k, v, output, q_starts, k_starts, table, *shown)
    strides = (*q.stride()[:2], *k.stride()[:2], *v.stride()[:2])
    most = 0 if others is None else others.most
    shape = (len(k_starts) - 1, heads, heads // k.shape[1], dim, max(longest, 1), most)
    options = (dim**-0.5 if scale is None else scale, -1 if window is None else window, causal)
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    failed = library.run("rerank_attention", _Attention(*pointers, *strides, *shape, *options))
    if failed == NO_MEMORY:
        raise MemoryError(f"attention over {longest} tokens has no memory for their keys and values")
    if failed:
        raise InputError(f"longest={longest}, and a sequence of this row has more tokens")
    return output


def _by_distance(bias: Tensor, longest: int, max_distance: int, *, bidirectional: bool) -> Tensor:
    """The bias of every distance, query's place minus key's, for base 2: float32 [heads, 2 * longest - 1 + a tile]."""
    library = native.library()
    assert library is not None
    distance = torch.arange(longest - 1, -longest, -1)  # key's place minus query's, as the buckets want it
    buckets = relative_buckets(distance, bias.shape[1], max_distance, bidirectional=bidirectional)
    table = bias.float()[:, buckets] / math.log(2)
    return torch.nn.functional.pad(table, (0, library.functions.rerank_tile())).contiguous()


def supports(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    *,
    cap: float | None = None,
    bias: Tensor | None = None,
    return_lse: bool = False,
    **options: Any,
) -> bool:
    """float32 on a CPU for which there is a library, no soft-cap, no log-sum-exp, no gradient wanted."""
    return cap is None and not return_lse and runs_here(q, k, v, cu_seqlens, bias)


def supports_first(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int, **options: Any) -> bool:
    """As above."""
    return runs_here(q, k, v, cu_seqlens, None)


def runs_here(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernel takes these."""
    return (
        native.takes(q, k, v, *(() if bias is None else (bias,)))
        and q.shape[-1] % 32 == 0
        and q.shape[-1] <= 256
        and q.shape[-1] == k.shape[-1] == v.shape[-1]
        and all(part.stride(-1) == 1 for part in (q, k, v))
        and cu_seqlens.dtype == torch.int32
        and cu_seqlens.device.type == "cpu"
        and cu_seqlens.is_contiguous()
    )
