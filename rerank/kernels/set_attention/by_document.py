"""The same by torch's own attention, document by document: for CPUs without native kernels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

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
    """As the reference."""
    seen = _seen(k, v, cu_seqlens.tolist(), cu_sets.tolist(), interaction)
    queries = (q[start:end] for start, end in pairwise(cu_seqlens.tolist()))
    return torch.cat([_attend(part, *keys, scale) for part, keys in zip(queries, seen, strict=True)])


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
    seen = _seen(k, v, cu_seqlens.tolist(), cu_sets.tolist(), interaction)
    return torch.cat([_attend(q[doc : doc + 1], *keys, scale) for doc, keys in enumerate(seen)])


def _seen(k: Tensor, v: Tensor, ends: list[int], sets: list[int], interaction: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Keys and values that each document sees: its own, then the others' interaction tokens in their order."""
    for first, last in pairwise(sets):
        showing = [doc for doc in range(first, last) if ends[doc] + interaction < ends[doc + 1]]
        shown = [ends[doc] + interaction for doc in showing]
        places = {doc: place for place, doc in enumerate(showing)}
        others = [part[shown] for part in (k, v)]
        for doc in range(first, last):
            own, place = slice(ends[doc], ends[doc + 1]), places.get(doc, len(shown))
            keys, values = (
                torch.cat([part[own], other[:place], other[place + 1 :]])
                for part, other in zip((k, v), others, strict=True)
            )
            yield keys, values


def _attend(q: Tensor, keys: Tensor, values: Tensor, scale: float | None) -> Tensor:
    """[tokens, heads, dim], [seen, heads, dim] -> [tokens, heads, dim]."""
    queries, keys, values = (part.transpose(0, 1)[None] for part in (q, keys, values))
    return scaled_dot_product_attention(queries, keys, values, scale=scale)[0].transpose(0, 1)


def supports(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int, cu_sets: Tensor, **options: Any
) -> bool:
    """On the CPU, as many heads of keys as of queries, no gradient wanted."""
    wanted = torch.is_grad_enabled() and any(part.requires_grad for part in (q, k, v))
    return q.device.type == "cpu" and q.shape[1] == k.shape[1] and not wanted
