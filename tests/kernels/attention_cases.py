"""Random inputs for the attention kernels."""

from __future__ import annotations

from typing import Any

import torch
from kernel_harness import Case
from torch import Tensor

Made = tuple[tuple[Any, ...], dict[str, Any]]


def starts(lengths: list[int]) -> Tensor:
    """Where sequences start and the last ends: int32 [sequences + 1]."""
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def qkv(tokens: int, heads: int, kv_heads: int, dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Parts of one tensor, as a fused projection gives them: their tokens are further apart than their sizes say."""
    fused = torch.randn(tokens, heads + 2 * kv_heads, dim).to(dtype)
    return fused[:, :heads], fused[:, heads : heads + kv_heads], fused[:, heads + kv_heads :]


def varlen(
    lengths: list[int], heads: int, kv_heads: int, dim: int, options: dict[str, Any], dtype: torch.dtype
) -> Made:
    if "bias" in options:
        options = options | {"bias": torch.randn(heads, options["bias"])}
    return (*qkv(sum(lengths), heads, kv_heads, dim, dtype), starts(lengths), max(lengths)), options


VARLEN = Case(
    "varlen_attention",
    varlen,
    rows={
        "one token": ([1], 1, 1, 32, {}),
        "lengths on both sides of a tile, one empty": ([17, 0, 16, 5], 2, 2, 32, {"return_lse": True}),
        "grouped, causal": ([33, 3], 4, 2, 64, {"causal": True}),
        "window": ([50], 1, 1, 32, {"window": 7, "return_lse": True}),
        "window, causal": ([50, 9], 2, 1, 32, {"window": 16, "causal": True}),
        "capped, own scale": ([20], 2, 2, 32, {"cap": 3.0, "scale": 0.7, "causal": True}),
        "T5": ([40, 11], 2, 2, 32, {"bias": 8, "max_distance": 20, "scale": 1.0}),
        "T5 decoder": ([30], 2, 2, 32, {"bias": 8, "max_distance": 20, "scale": 1.0, "causal": True}),
        "heads of 128": ([18], 1, 1, 128, {}),
        "heads of 256": ([5], 2, 1, 256, {}),
    },
    real={
        "MiniLM, 12 heads of 32": ([64, 192], 12, 12, 32, {}),
        "BERT, 12 heads of 64": ([64, 192], 12, 12, 64, {}),
        "T5, 12 heads of 64, biased": ([64, 192], 12, 12, 64, {"bias": 32, "scale": 1.0}),
        "ModernBERT, local": ([64, 192], 12, 12, 64, {"window": 64}),
        "Qwen3, 16 / 8 heads of 128, causal": ([64, 192], 16, 8, 128, {"causal": True}),
        "Gemma 2, 8 / 4 heads of 256, capped": ([64, 192], 8, 4, 256, {"causal": True, "cap": 50.0}),
    },
)

CASES = [VARLEN]
