"""The same on x86 CPUs in float32: `native/attention.c`, which reads the others' tokens where they lie."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rerank.kernels.varlen_attention.native import Others, attend, runs_here

__all__ = ["first_token_set_attention", "set_attention", "supports"]


def set_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    cu_sets: Tensor,
    *,
    interaction: int = 1,
    scale: float | None = None,
) -> Tensor:
    """As the reference; rows of q beyond the last document come back as zeros."""
    others = _others(cu_seqlens, cu_sets, interaction)
    return attend(q, k, v, cu_seqlens, cu_seqlens, longest, scale=scale, others=others)


def first_token_set_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    cu_sets: Tensor,
    *,
    interaction: int = 1,
    scale: float | None = None,
) -> Tensor:
    """As the reference."""
    rows = torch.arange(len(cu_seqlens), dtype=torch.int32)
    others = _others(cu_seqlens, cu_sets, interaction)
    return attend(q, k, v, rows, cu_seqlens, longest, scale=scale, others=others)


def _others(cu_seqlens: Tensor, cu_sets: Tensor, interaction: int) -> Others:
    """The interaction tokens of all documents, and which of them each document sees."""
    tokens = cu_seqlens[:-1] + interaction
    there = tokens < cu_seqlens[1:]
    shown = torch.nn.functional.pad(there.cumsum(0), (1, 0))  # before each document, how many have such a token
    starts = shown[cu_sets.long()]
    documents = torch.arange(len(tokens), dtype=torch.int32)
    its_set = torch.searchsorted(cu_sets[1:].contiguous(), documents, right=True)
    own = shown[:-1].where(there, -1)
    seen = torch.stack([starts[its_set], starts[its_set + 1], own], 1).int().contiguous()
    return Others(tokens[there].int().contiguous(), seen, int(starts.diff().max()) if len(cu_sets) > 1 else 0)


def supports(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int, cu_sets: Tensor, **options: Any
) -> bool:
    """float32 on a CPU for which there is a library, no gradient wanted."""
    return runs_here(q, k, v, cu_seqlens, None) and cu_sets.device.type == "cpu"
