"""What the rows of a writing decoder have behind them: keys and values of each, every row at a place of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from rerank.engine.t5.encoder import Work

__all__ = ["Slots"]

GROWTH = 32  # positions that are added when there is no room for one more: a cache of 200 is copied six times


class Slots:
    """Keys and values of so many decoder rows, which may begin and end at any step.

    Args:
        rows: of the decoder; each is a slot that one text after another may have.
        ragged: attend row by row where places differ, so that no row's bits depend on another's place; else all at
            once under a mask.
    """

    def __init__(self, rows: int, *, ragged: bool) -> None:
        self.places = [0] * rows
        """Positions that each row has behind it."""
        self.live: set[int] = set()
        self.ragged = ragged
        self._kept: list[tuple[Tensor, Tensor]] = []  # of each layer [rows, heads, room, width]
        self._places: Tensor | None = None  # the same places on the device, sent there once a step

    def begin(self, row: int) -> None:
        """A new text takes a slot; what the one before left there is overwritten."""
        self.places[row], self._places = 0, None
        self.live.add(row)

    def end(self, row: int) -> None:
        """The text in a slot has ended."""
        self.places[row], self._places = 0, None
        self.live.remove(row)

    def advance(self) -> None:
        """Every text is one position longer."""
        self._places = None
        for row in self.live:
            self.places[row] += 1

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, line: Tensor, work: Work) -> Tensor:
        """Attention of each row's new position to all of its own: [rows, heads, width], same shape back.

        Args:
            line: the layer's position bias at key − query = −D … D: [heads, 2·D + 1].
        """
        keys, values = self._keep(layer, key, value)
        longest = max(self.places) + 1
        back = _behind(line, longest)  # [heads, longest]
        places = {self.places[row] for row in self.live}
        if len(places) == 1:
            counted, output = len(query) * longest, _read(query, keys, values, back)
        elif self.ragged:
            counted, output = self._by_row(query, keys, values, back)
        else:
            counted, output = len(query) * longest, self._masked(query, keys, values, back)
        work.attend(counted, query.shape[1] * query.shape[2])
        return output

    def _keep(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Put the new keys and values in their places."""
        if layer == len(self._kept):
            self._kept.append((key.new_zeros(*key.shape[:2], 0, key.shape[2]),) * 2)
        kept = self._kept[layer]
        if max(self.places) >= kept[0].shape[2]:
            kept = self._kept[layer] = (pad(kept[0], (0, 0, 0, GROWTH)), pad(kept[1], (0, 0, 0, GROWTH)))
        rows = torch.arange(len(key), device=key.device)
        places = self._on(key.device)
        kept[0][rows, :, places] = key
        kept[1][rows, :, places] = value
        return kept

    def _on(self, device: torch.device) -> Tensor:
        if self._places is None:
            self._places = torch.tensor(self.places, device=device)
        return self._places

    def _by_row(self, query: Tensor, keys: Tensor, values: Tensor, back: Tensor) -> tuple[int, Tensor]:
        output = torch.zeros_like(query)
        counted = 0
        for row in self.live:
            one = slice(row, row + 1)
            seen = self.places[row] + 1
            output[one] = _read(query[one], keys[one], values[one], back[:, back.shape[1] - seen :])
            counted += seen
        return counted, output

    def _masked(self, query: Tensor, keys: Tensor, values: Tensor, back: Tensor) -> Tensor:
        """All rows over as many positions as the longest has; a row's bias ends where the row does."""
        longest = back.shape[1]
        ahead = (
            torch.arange(longest, device=query.device) - self._on(query.device)[:, None]
        )  # [rows, longest], above 0: not written yet
        bias = back[:, (ahead + longest - 1).clamp(max=longest - 1)].transpose(0, 1)  # [rows, heads, longest]
        bias = bias.masked_fill((ahead > 0)[:, None], float("-inf"))[:, :, None]
        seen = (keys[:, :, :longest], values[:, :, :longest])
        return scaled_dot_product_attention(query[:, :, None], *seen, attn_mask=bias, scale=1.0)[:, :, 0]


def _behind(line: Tensor, longest: int) -> Tensor:
    """The bias of so many keys up to the query's own, the farthest first: [heads, longest]."""
    reach = line.shape[1] // 2
    behind = line[:, max(0, reach + 1 - longest) : reach + 1]
    return torch.cat([line[:, :1].expand(-1, longest - behind.shape[1]), behind], 1)


def _read(query: Tensor, keys: Tensor, values: Tensor, back: Tensor) -> Tensor:
    """Rows that see equally many keys: [rows, heads, width], same shape back."""
    seen = back.shape[1]
    parts = (query[:, :, None], keys[:, :, :seen], values[:, :, :seen])
    bias = back[None, :, None].expand(len(query), -1, -1, -1)
    return scaled_dot_product_attention(*parts, attn_mask=bias, scale=1.0)[:, :, 0]
