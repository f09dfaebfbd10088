"""Attention of a packed row to a pool of keys and values: each view's queries are the last tokens of its runs.

Two ways of computing it:

- `sdpa` (CPU): torch's own, one call a view, which is one segment of a prompt. A call's shape depends on nothing but
  the segment's length and on how many tokens are in front of it, so its bits do not depend on neighbours, on what is
  shared, or on where in the pool a prompt lies.
- `kernel` (CUDA): all views in one call of `prefix_attention`, which reads the pool where it lies.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rerank.engine.decoders.kv_pool import KeyValues, Run, joined
from rerank.kernels.prefix_attention import prefix_attention

__all__ = ["Options", "View", "Views"]


@dataclass(frozen=True)
class Options:
    """What a layer's attention is like.

    Args:
        scale: of the scores.
        window: tokens that a token sees, itself included; None: all.
        cap: the c of c · tanh(score / c); None: scores as they are.
    """

    scale: float
    window: int | None = None
    cap: float | None = None


@dataclass(frozen=True)
class View:
    """Some queries and what they see: the queries are the last `count` tokens of the runs.

    Args:
        count: queries.
        runs: where the whole prompt up to the last query lies in the pool, in order.
    """

    count: int
    runs: tuple[Run, ...]

    @cached_property
    def total(self) -> int:
        """Tokens of the prompt up to the last query."""
        return sum(length for _, length in self.runs)

    def along(self, pool: Tensor) -> Tensor:
        """[slots, heads, dim] -> [total, heads, dim]."""
        return _along(joined(self.runs), pool)


Seen: TypeAlias = tuple[tuple[Run, ...], Tensor | None]


class Views:
    """The views of one row, in the row's order.

    Args:
        views: at least one.
        pool: where all their tokens lie when attention is computed.
        mode: "sdpa" or "kernel".
    """

    def __init__(self, views: Sequence[View], pool: KeyValues, mode: str) -> None:
        self.views = views
        self.pool = pool
        self._attend = self._by_kernel if mode == "kernel" else self._by_view
        self._exact = mode == "kernel"
        self._seen: dict[int | None, list[Seen]] = {}
        self._pairs: dict[int | None, int] = {}

    def attend(self, layer: int, query: Tensor, options: Options) -> Tensor:
        """[rows, heads, dim] -> [rows, heads, dim]; rows beyond the views' are filler and come back as zeros."""
        output = torch.zeros_like(query, memory_format=torch.contiguous_format)
        self._attend(layer, query, output, options)
        return output

    def pairs(self, window: int | None) -> int:
        """(query, key) pairs that are computed for one head.

        By the kernel those that are seen; by SDPA a rectangle of queries and keys, from which a window's far end and,
        where nothing is in front of the queries, the upper triangle are left out.
        """
        if window not in self._pairs:
            self._pairs[window] = sum(self._pairs_of(view, window) for view in self.views)
        return self._pairs[window]

    # -- by torch ------------------------------------------------------------------------------------------------

    def _by_view(self, layer: int, query: Tensor, output: Tensor, options: Options) -> None:
        keys, values = self.pool.keys[layer], self.pool.values[layer]
        start = 0
        for view, (runs, mask) in zip(self.views, self._what_is_seen(options.window), strict=True):
            part = slice(start, start + view.count)
            path_keys, path_values = (_along(runs, pool).transpose(0, 1)[None] for pool in (keys, values))
            queries = query[part].transpose(0, 1)[None]
            attended = (
                _attend(queries, path_keys, path_values, mask, options.scale)
                if options.cap is None
                else _attend_capped(queries, path_keys, path_values, mask, options)
            )
            output[part] = attended[0].transpose(0, 1)
            start += view.count

    def _what_is_seen(self, window: int | None) -> list[Seen]:
        """For each view the runs that any of its queries sees, and a mask [queries, keys] where some see less."""
        if window not in self._seen:
            dtype, device = self.pool.keys[0].dtype, self.pool.keys[0].device
            masks: dict[tuple[int, int], Tensor | None] = {}
            self._seen[window] = []
            for view in self.views:
                first = _first_seen(view, window)
                shape = (view.count, view.total - first)
                if shape not in masks:
                    masks[shape] = _mask(*shape, window, dtype, device)
                self._seen[window].append((_without(first, view.runs), masks[shape]))
        return self._seen[window]

    def _pairs_of(self, view: View, window: int | None) -> int:
        first = view.total - view.count
        if self._exact:
            return sum(min(place + 1, window or place + 1) for place in range(first, view.total))
        if first == 0 and (window is None or view.total <= window):
            return view.count * (view.count + 1) // 2
        return view.count * (view.total - _first_seen(view, window))

    # -- by the kernel -------------------------------------------------------------------------------------------

    def _by_kernel(self, layer: int, query: Tensor, output: Tensor, options: Options) -> None:
        starts, segments, slots, longest = self._layout
        keys, values = self.pool.keys[layer], self.pool.values[layer]
        output[: len(slots)] = prefix_attention(
            query[: len(slots)], keys[slots], values[slots], starts, longest, keys, values, segments,
            window=None if options.window is None else options.window - 1, scale=options.scale, cap=options.cap,
        )  # fmt: skip

    @cached_property
    def _layout(self) -> tuple[Tensor, Tensor, Tensor, int]:
        """Where queries start; the runs in front of each view's queries; the slots of the queries; the longest."""
        device = self.pool.keys[0].device
        starts = [0, *itertools.accumulate(view.count for view in self.views)]
        before = [joined(_parted(view)[0]) for view in self.views]
        slots = [slot for view in self.views for start, length in _parted(view)[1] for slot in _range(start, length)]
        width = max(1, max(map(len, before)))
        segments = [[*runs, *[(0, 0)] * (width - len(runs))] for runs in before]
        return (
            torch.tensor(starts, dtype=torch.int32, device=device),
            torch.tensor(segments, dtype=torch.int32, device=device),
            torch.tensor(slots, device=device),
            max(view.count for view in self.views),
        )


def _range(start: int, length: int) -> range:
    return range(start, start + length)


def _first_seen(view: View, window: int | None) -> int:
    """The first token of the prompt that the first query sees."""
    return 0 if window is None else max(0, view.total - view.count - window + 1)


def _parted(view: View) -> tuple[list[Run], list[Run]]:
    """The runs in front of the queries, and those of the queries."""
    before: list[Run] = []
    left = view.total - view.count
    for index, (start, length) in enumerate(view.runs):
        if length > left:
            own = [(start + left, length - left), *view.runs[index + 1 :]]
            return [*before, (start, left)] if left else before, own
        before.append((start, length))
        left -= length
    return before, []


def _without(first: int, runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """The runs from the prompt's token `first` on, those side by side made one."""
    whole = sum(length for _, length in runs)
    return joined(_parted(View(whole - first, runs))[1]) if first else joined(runs)


def _along(runs: Sequence[Run], pool: Tensor) -> Tensor:
    """[slots, heads, dim] -> [tokens, heads, dim]: where it lies when it is one run, else a copy."""
    parts = [pool[start : start + length] for start, length in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _mask(queries: int, keys: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """What is added to the scores of the last `queries` of `keys` tokens; None when it says causal, or nothing."""
    if queries == 1 or (queries == keys and (window is None or keys <= window)):
        return None
    places = torch.arange(keys, device=device)
    back = places[keys - queries :, None] - places[None, :]
    hidden = back < 0 if window is None else (back < 0) | (back >= window)
    return torch.zeros(queries, keys, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    causal = mask is None and query.shape[2] > 1
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
    )


def _attend_capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: Options) -> Tensor:
    """Written out, because SDPA knows no soft-capping: [1, heads, queries, dim] -> the same."""
    assert options.cap is not None
    heads, queries, dim = query.shape[1:]
    grouped = query.reshape(key.shape[1], -1, dim)  # all queries of the heads that share keys
    scores = torch.matmul(grouped, key[0].mT).mul_(options.scale / options.cap).tanh_().mul_(options.cap)
    scores = scores.view(heads, queries, -1)
    if mask is None and queries > 1:
        mask = scores.new_full(scores.shape[1:], float("-inf")).triu_(1)
    if mask is not None:
        scores = scores + mask
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights.view(key.shape[1], -1, key.shape[2]), value[0]).view(1, heads, queries, dim)
