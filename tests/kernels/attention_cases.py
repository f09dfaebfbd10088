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
        "grouped, causal": ([18, 3], 4, 2, 64, {"causal": True}),
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


def prefix(
    lengths: list[int],
    paths: list[list[tuple[int, int]]],
    heads: int,
    kv_heads: int,
    dim: int,
    options: dict[str, Any],
    dtype: torch.dtype,
) -> Made:
    """`paths` has each request's (start, length) in a pool that holds a little more than is read."""
    _, pool_k, pool_v = qkv(3 + max(sum(segment) for path in paths for segment in path), heads, kv_heads, dim, dtype)
    own = (*qkv(sum(lengths), heads, kv_heads, dim, dtype), starts(lengths), max(lengths))
    return (*own, pool_k, pool_v, torch.tensor(paths, dtype=torch.int32)), options


PREFIX = Case(
    "prefix_attention",
    prefix,
    rows={
        "one segment for all": ([17, 1], [[(0, 20)], [(0, 20)]], 2, 2, 32, {}),
        "two levels, grouped, one slot empty": (
            [5, 17],
            [[(3, 16), (19, 7)], [(3, 16), (0, 0)]],
            4,
            2,
            32,
            {"return_lse": True},
        ),
        "no prefix at all": ([9, 3], [[(0, 0)], [(0, 0)]], 2, 1, 64, {}),
        "a window over segments": ([20, 3], [[(0, 37), (50, 18)], [(0, 37), (0, 0)]], 2, 1, 32, {"window": 20}),
        "a request without tokens, capped": (
            [4, 0, 2],
            [[(1, 5)], [(1, 5)], [(0, 0)]],
            2,
            2,
            32,
            {"cap": 2.0, "scale": 0.5},
        ),
    },
    real={
        "Qwen3, 16 / 8 heads of 128": ([64, 192], [[(0, 70), (70, 150)]] * 2, 16, 8, 128, {}),
        "Llama, 32 / 8 heads of 64": ([64, 192], [[(0, 70), (70, 150)]] * 2, 32, 8, 64, {}),
        "Gemma, 8 / 4 heads of 256, windowed": ([64, 192], [[(0, 70), (70, 150)]] * 2, 8, 4, 256, {"window": 512}),
    },
)


def set_of_documents(
    lengths: list[int], sets: list[int], heads: int, dim: int, options: dict[str, Any], dtype: torch.dtype
) -> Made:
    return (*qkv(sum(lengths), heads, heads, dim, dtype), starts(lengths), max(lengths), starts(sets)), options


SET = Case(
    "set_attention",
    set_of_documents,
    rows={
        "two queries": ([17, 2, 16, 9, 3], [3, 2], 2, 32, {}),
        "one document": ([20], [1], 1, 64, {}),
        "a query without documents, a document without tokens": ([5, 0, 4], [0, 3], 2, 32, {}),
        "more documents than a tile": ([2] * 17, [17], 1, 32, {"interaction": 0, "scale": 0.3}),
    },
    real={"ELECTRA, 12 heads of 64": ([64, 192, 64], [2, 1], 12, 64, {})},
)


def mass(
    queries: int,
    context: int,
    spans: list[tuple[int, int]] | None,
    heads: int,
    kv_heads: int,
    dim: int,
    options: dict[str, Any],
    dtype: torch.dtype,
) -> Made:
    q, k, _ = qkv(queries, heads, kv_heads, dim, dtype)
    _, keys, _ = qkv(context, heads, kv_heads, dim, dtype)
    return (q, k, keys, None if spans is None else torch.tensor(spans, dtype=torch.int32)), options


MASS = Case(
    "attention_mass",
    mass,
    rows={
        "every token": (17, 40, None, 2, 2, 32, {}),
        "documents, grouped": (5, 70, [(3, 20), (20, 21), (30, 30), (33, 69)], 4, 2, 32, {}),
        "one query token": (1, 16, [(0, 16)], 1, 1, 64, {"scale": 0.5}),
    },
    real={"Llama, 32 / 8 heads of 128": (64, 2048, [(0, 100), (100, 2048)], 32, 8, 128, {})},
)


def disentangled(
    lengths: list[int], heads: int, dim: int, span: int, options: dict[str, Any], terms: str, dtype: torch.dtype
) -> Made:
    q, k, v = qkv(sum(lengths), heads, heads, dim, dtype)
    tables = [torch.randn(2 * span, heads, dim).to(dtype) if term in terms else None for term in ("c2p", "p2c")]
    return (q, k, v, *tables, starts(lengths), max(lengths)), options


DISENTANGLED = Case(
    "disentangled_attention",
    disentangled,
    rows={
        "v3": ([17, 0, 33], 1, 32, 8, {"buckets": 8, "max_distance": 32}, "c2p p2c"),
        "no buckets, longer than the table": ([30], 1, 32, 12, {"buckets": 0, "max_distance": 12}, "c2p p2c"),
        "content to position alone": ([5, 9], 2, 64, 8, {"buckets": 8, "max_distance": 32}, "c2p"),
        "position to content alone": ([5, 9], 2, 32, 8, {"buckets": 8, "max_distance": 32}, "p2c"),
        "no positions": ([7], 1, 32, 8, {"buckets": 8, "max_distance": 32}, ""),
    },
    real={"DeBERTa-v3-base, 12 heads of 64": ([64, 192], 12, 64, 256, {}, "c2p p2c")},
)

CASES = [VARLEN, PREFIX, SET, MASS, DISENTANGLED]
