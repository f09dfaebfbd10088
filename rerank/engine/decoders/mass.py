"""How much attention marked tokens pay to what stands in front of them: read off while a model runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from rerank.engine.decoders.attention import Options, View
from rerank.engine.decoders.kv_pool import KeyValues
from rerank.engine.decoders.run import Wanted
from rerank.errors import InputError
from rerank.kernels.attention_mass import attention_mass

__all__ = ["MassReader", "segment_sums"]


class MassReader:
    """Adds up attention mass over tokens, heads and layers. Give `see` to a computation.

    Args:
        pool: where keys lie.
        context: tokens of the context that all who are seen share.
        layers: whose attention counts.

    Attributes:
        flops: of the scores, which are computed once more for this.
    """

    def __init__(self, pool: KeyValues, context: int, layers: Collection[int]) -> None:
        self._pool = pool
        self._context = context
        self._layers = layers
        self._mass: dict[Wanted, Tensor] = {}
        self.flops = 0

    def see(self, wanted: Wanted, layer: int, queries: Tensor, view: View, options: Options) -> None:
        """Add what queries [count, heads, dim], the last of a view, pay to the context in one layer.

        Raises:
            InputError: when the layer caps its scores, or does not see all of the context.
        """
        if layer not in self._layers:
            return
        self._check(layer, view, options)
        keys = view.along(self._pool.keys[layer])  # [tokens, kv_heads, dim]
        before = view.total - view.count
        mass = attention_mass(queries, keys[before:], keys[:before], scale=options.scale)[: self._context]
        self._mass[wanted] = self._mass[wanted] + mass if wanted in self._mass else mass
        self.flops += 2 * view.count * view.total * queries.shape[1] * queries.shape[2]

    def of(self, wanted: Sequence[Wanted], device: torch.device) -> Tensor:
        """What each paid: float32 [wanted, context tokens]."""
        nothing = torch.zeros(self._context, device=device)
        return torch.stack([self._mass.get(each, nothing) for each in wanted])

    def _check(self, layer: int, view: View, options: Options) -> None:
        if options.cap is not None:
            raise InputError(f"layer {layer} caps its attention scores, and attention mass knows no caps")
        if options.window is not None and options.window < view.total:
            raise InputError(
                f"layer {layer} sees {options.window} tokens of a prompt of {view.total}; name other layers, "
                "or ask about fewer documents at once"
            )


def segment_sums(tokens: Tensor, lengths: Sequence[int]) -> Tensor:
    """[suffixes, tokens] -> [suffixes, segments]."""
    return torch.stack([part.sum(1) for part in torch.split(tokens, list(lengths), 1)], 1)
