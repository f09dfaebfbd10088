"""Scores under dropout in the last layers: what comes before them is computed once, and kept.

Every sample is one thinned network, drawn from the seed, which reads all texts: a mask belongs to a sample, a layer, a
place in the text and a channel, so that the scores of a text do not depend on its batch. Dropped are the two outputs of
a layer that are added to its input, and the pooled state before the head; weights of attention are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from rerank.engine import linear
from rerank.engine.encoder import Scored
from rerank.engine.encoders.choice import check_agreement, choose, probes
from rerank.engine.encoders.families import (
    FAMILIES,
    check_encoder,
    head_of,
    head_size,
    keep_head_in_float32,
    taken_apart,
)
from rerank.engine.encoders.flops import ForwardCost
from rerank.engine.encoders.layers import HEAD_ROWS, Layer, in_fixed_rows
from rerank.engine.encoders.native import attend_natively
from rerank.engine.encoders.packed import inverse, rows_for, widths_of
from rerank.engine.encoders.padded import single
from rerank.engine.encoders.row import Row, moved, row_of
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError, InputError

__all__ = ["Dropout", "DropoutEncoder"]

SITES = ("outward", "down", "mlp")
"""What of a layer is added to its input: the projection of attention, and the feed-forward half."""


@dataclass(frozen=True)
class Dropout:
    """How scores are sampled.

    Args:
        samples: thinned networks.
        layers: of which the last so many are thinned.
        share: of the channels that are dropped, from 0 to below 1; None: as the checkpoint was trained.
        seed: of the masks.

    Raises:
        InputError: when one is out of its range.
    """

    samples: int = 20
    layers: int = 2
    share: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.layers < 1:
            raise InputError(f"samples={self.samples} and layers={self.layers}; both are at least 1")
        if self.share is not None and not 0 <= self.share < 1:
            raise InputError(f"dropout={self.share}; it is a share from 0 to below 1")


class DropoutEncoder:
    """A sequence classifier that scores pairs several times.

    Args:
        model: as of `rerank.engine.encoder.Encoder`; taken apart.
        dropout: how.
        longest: tokens of the longest text.

    Raises:
        InputError: when the model is not run in one row here, or has fewer layers.
        CheckpointError: when without dropout it disagrees with the model's own forward.
    """

    packs = True

    def __init__(self, model: Any, dropout: Dropout, *, longest: int) -> None:
        check_encoder(model)
        self.model, self.dropout = model, dropout
        self.device: torch.device = model.device
        mode, why = choose(model, None, deterministic=False)
        if mode not in ("packed", "varlen"):
            raise InputError(
                f"uncertainty keeps the states before the last layers, which this model does not give: {why}"
            )
        self.share = _share(model, dropout)
        self.masks = _Masks(dropout.seed, self.share, longest)
        with torch.inference_mode():
            several = probes(model)
            expected = single(model, several).float()
            self.mean = FAMILIES[model.config.model_type].mean(model.config)
            keep_head_in_float32(model)
            self.head, self.labels, self.widths = head_of(model), model.config.num_labels, widths_of(model)
            self._take_apart(varlen=mode == "varlen")
            check_agreement(model, self._run(several, samples=[None])[0][:, 0], expected)

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        fused = ", fused linear layers" if self.fused else ""
        return f"one row, the last {self.dropout.layers} layers {self.dropout.samples} times{fused}"

    @torch.inference_mode()
    def score(self, pairs: Sequence[Pair]) -> Scored:
        """Logits [texts, samples * labels] of a batch, float32 on the CPU, in the order given."""
        values, padded, flops = self._run(pairs, samples=range(self.dropout.samples))
        return Scored(values.flatten(1), padded, flops)

    def _take_apart(self, *, varlen: bool) -> None:
        size = head_size(self.model)
        self.backbone = taken_apart(self.model, varlen=varlen)
        layers, last = self.backbone.layers, self.dropout.layers
        if last > len(layers):
            raise InputError(f"layers={last}, but {type(self.model).__name__} has {len(layers)}")
        self.first = not self.mean and isinstance(layers[-1], Layer)
        if self.first and not varlen:
            layers[-1].cut()  # type: ignore[operator]
        thinned: Any = nn.Module()
        thinned.layers = layers[len(layers) - last :]
        self.whole = ForwardCost.of_backbone(self.backbone, size, first=self.first)
        self.again = ForwardCost.of_backbone(thinned, size, first=self.first)
        self.fused = linear.available(self.model)
        if self.fused:
            linear.fuse(self.backbone)
        attend_natively(self.backbone)
        for index, layer in enumerate(thinned.layers):
            _thin(layer, self.masks, index, first=self.first and index == last - 1)

    def _run(self, pairs: Sequence[Pair], samples: Sequence[int | None]) -> tuple[Tensor, int, int]:
        """Logits [texts, samples, labels]; filler rows and FLOPs."""
        lengths = [len(pair.ids) for pair in pairs]
        order = sorted(range(len(pairs)), key=lengths.__getitem__)
        rows = rows_for(sum(lengths), linear.FEWEST_ROWS if self.fused else linear.SAFE_ROWS, self.widths)
        row = row_of([pairs[index] for index in order], rows)
        if self.device.type != "cpu":
            row = moved(row, self.device)
        kept = self.backbone.until(row, self.dropout.layers)
        values = torch.stack([self._sample(kept, row, sample) for sample in samples], 1).cpu()
        heads = -(-len(pairs) // HEAD_ROWS) * HEAD_ROWS
        flops = self.whole.flops(rows, lengths, heads)
        flops += (len(samples) - 1) * self.again.flops(rows, lengths, heads)
        return values[inverse(order)], rows - sum(lengths), flops

    def _sample(self, kept: Tensor, row: Row, sample: int | None) -> Tensor:
        self.masks.now(sample, row.places)
        states = self.backbone.onwards(kept, row, self.dropout.layers, first=self.first)
        if not self.first:
            states = self._pooled(states, row)
        return in_fixed_rows(self.head, self.masks.thin(states.float(), site="pooled", first=True))

    def _pooled(self, states: Tensor, row: Row) -> Tensor:
        if not self.mean:
            return states[row.first]
        texts = torch.split(states[: int(row.ends[-1])], row.ends.diff().tolist())
        return torch.stack([text.float().mean(0) for text in texts])


class _Masks:
    """What is kept of each place and channel, sample by sample."""

    def __init__(self, seed: int, share: float, longest: int) -> None:
        self.seed, self.share, self.longest = seed, share, longest
        self.sample: int | None = None
        self.places: Tensor | None = None
        self._drawn = lru_cache(maxsize=512)(self._draw)

    def now(self, sample: int | None, places: Tensor) -> None:
        """From here on this sample is computed; None is the whole network."""
        self.sample, self.places = sample, places

    def thin(self, states: Tensor, *, site: str, first: bool) -> Tensor:
        """Drop some channels of each row; `first` when all rows are of first tokens."""
        if self.sample is None:
            return states
        kept = self._drawn(f"{self.sample} {site}", states.shape[1], states.device)
        assert self.places is not None
        rows = kept[:1] if first else kept[self.places]
        return torch.where(rows, states / (1 - self.share), 0.0)

    def _draw(self, name: str, width: int, device: torch.device) -> Tensor:
        """Which channels of which places are kept: bool [longest, width]."""
        digest = hashlib.blake2b(f"{self.seed} {name}".encode(), digest_size=7).digest()
        dice = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
        return (torch.rand(self.longest, width, generator=dice) >= self.share).to(device)


class _Thinned(nn.Module):
    """A module, some of whose outputs are dropped."""

    def __init__(self, inner: nn.Module, masks: _Masks, site: str, *, first: bool) -> None:
        super().__init__()
        self.inner, self.masks, self.site, self.first = inner, masks, site, first

    def forward(self, rows: Tensor) -> Tensor:
        return self.masks.thin(self.inner(rows), site=self.site, first=self.first)


def _thin(layer: nn.Module, masks: _Masks, index: int, *, first: bool) -> None:
    for module in list(layer.modules()):
        if isinstance(module, Layer):
            for site in SITES:
                if isinstance(inner := getattr(module, site, None), nn.Module):
                    setattr(module, site, _Thinned(inner, masks, f"{index} {site}", first=first))


def _share(model: Any, dropout: Dropout) -> float:
    """The share that is dropped: as asked, or as the model was trained.

    Raises:
        CheckpointError: when its config does not say, or says 0.
    """
    if dropout.share is not None:
        return dropout.share
    names = ("hidden_dropout_prob", "dropout", "mlp_dropout")
    trained = next((value for name in names if (value := getattr(model.config, name, None))), None)
    if not trained:
        raise CheckpointError("the checkpoint was trained without dropout, or does not say so; give dropout=0.1")
    return float(trained)
