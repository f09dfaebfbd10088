"""One row of tokens on its way through the layers: what attention is told, in every layer and in the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from rerank.engine.decoders.attention import Options, View, Views
from rerank.engine.decoders.kv_pool import Run
from rerank.engine.t5.encoder import Work

__all__ = ["Ask", "Row", "Step", "Watch", "attend"]

Watch: TypeAlias = Callable[[int, int, Tensor, View, Options], None]
"""Called in every layer for every ask: which ask, which layer, its queries [count, heads, dim], what they see, how."""


@dataclass(frozen=True, slots=True)
class Row:
    """New tokens that follow each other in a prompt.

    Args:
        ids: their token ids, at least one.
        slot: where the first one's keys and values go in the pool; those of the others follow.
        path: where everything in front of them lies in the pool, in order; nothing for the start of a prompt. What
            another row of the same step writes may be named too.
    """

    ids: Sequence[int]
    slot: int
    path: tuple[Run, ...] = ()

    @property
    def position(self) -> int:
        """Tokens in front of the first one."""
        return sum(length for _, length in self.path)

    @property
    def run(self) -> Run:
        """Where these tokens lie."""
        return self.slot, len(self.ids)


@dataclass(frozen=True, slots=True)
class Ask:
    """The last `count` tokens of a row, whose hidden states are wanted; a row may be asked several times."""

    row: int
    count: int = 1


@dataclass
class Step:
    """What attention needs to know of a row of tokens.

    Args:
        whole: of all tokens.
        slots: where they go, int64 [tokens].
        last: of the tokens that are asked for, in the order of the asks; None when there are none.
        asked: where these stand in the row, int64; filled up with tokens that nobody asked for.
        work: what is charged.
        watch: what is shown the queries of every ask.
        is_last: whether the layer at hand is the last, and its keys and values are written.
    """

    whole: Views
    slots: Tensor
    last: Views | None
    asked: Tensor
    work: Work
    watch: Watch | None
    is_last: bool = False

    def attend(self, layer: int, queries: Tensor, options: Options) -> Tensor:
        """[rows, heads, dim] -> [rows, heads, dim]."""
        views = self.last if self.is_last else self.whole
        assert views is not None
        if self.watch is not None:
            self._show(self.watch, layer, queries, options)
        self.work.attend(views.pairs(options.window), queries.shape[1] * queries.shape[2])
        return views.attend(layer, queries, options)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Put a layer's keys and values of all tokens into the pool: [rows, kv_heads, dim] twice."""
        real = len(self.slots)
        self.whole.pool.write(layer, self.slots, keys[:real], values[:real])

    def _show(self, watch: Watch, layer: int, queries: Tensor, options: Options) -> None:
        if self.last is None:
            return
        if not self.is_last:
            queries = queries[self.asked]
        start = 0
        for ask, view in enumerate(self.last.views):
            watch(ask, layer, queries[start : start + view.count], view, options)
            start += view.count


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    step: Step,
    scaling: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: [1, heads, rows, dim] -> [1, rows, heads, dim]."""
    if not step.is_last:
        step.write(module.layer_idx, key[0].transpose(0, 1), value[0].transpose(0, 1))
    options = Options(scaling, sliding_window, softcap)
    return step.attend(module.layer_idx, query[0].transpose(0, 1), options)[None], None
