"""The encoder states that decoder rows attend to, each row to its own: one by one, or in a rectangle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

__all__ = ["Memory", "PaddedMemory", "RaggedMemory", "WatchedMemory"]

Project = Callable[[Tensor], Tensor]
"""States to keys or to values: [states, dim] -> [states, heads · width]."""


class Memory(Protocol):
    """The encoder states that each decoder row attends to. Queries of all rows lie one after the other.

    `counts` says how many queries each row has; what lies beyond them is filler and comes back as zeros.
    """

    def put(self, row: int, states: Tensor) -> None:
        """A row attends to these from now on: [states, dim]."""
        ...

    def forget(self, row: int) -> None:
        """A row that has ended needs its states no more."""
        ...

    def attend(self, queries: Tensor, counts: Sequence[int]) -> Tensor:
        """Attention with states themselves as keys and values: [queries, heads, dim], same shape back."""
        ...

    def attend_projected(self, queries: Tensor, counts: Sequence[int], key: Project, value: Project) -> Tensor:
        """Attention with keys and values that are made of states: [queries, heads, width], same shape back."""
        ...

    def pairs(self, counts: Sequence[int]) -> int:
        """(query, state) pairs of one pass, padding included."""
        ...

    @property
    def size(self) -> int:
        """States there are, padding included."""
        ...


class RaggedMemory:
    """States of different number, each row's on its own: no row's bits depend on another's length."""

    def __init__(self, states: Sequence[Tensor] = ()) -> None:
        self._states = dict(enumerate(states))

    def put(self, row: int, states: Tensor) -> None:
        """A row attends to these from now on."""
        self._states[row] = states

    def forget(self, row: int) -> None:
        """A row that has ended needs its states no more."""
        del self._states[row]

    @property
    def size(self) -> int:
        """States there are."""
        return sum(map(len, self._states.values()))

    def pairs(self, counts: Sequence[int]) -> int:
        """(query, state) pairs of one pass."""
        return sum(counts[row] * len(states) for row, states in self._states.items())

    def attend(self, queries: Tensor, counts: Sequence[int]) -> Tensor:
        """A row's heads are so many queries of two heads, whose keys and values are the states.

        Of two, because torch gives an only head to the BLAS with all threads, whose number then decides the last bit.
        """
        output = torch.zeros_like(queries)
        for row, part in _parts(counts):
            if (states := self._states.get(row)) is not None:
                asked = queries[part].flatten(0, 1)  # [queries * heads, dim]
                halves = pad(asked, (0, 0, 0, len(asked) % 2)).view(1, 2, -1, asked.shape[1])
                keys = states.expand(1, 2, -1, -1)
                read = scaled_dot_product_attention(halves, keys, keys, scale=1.0)
                output[part] = read.flatten(0, 2)[: len(asked)].view_as(queries[part])
        return output

    def attend_projected(self, queries: Tensor, counts: Sequence[int], key: Project, value: Project) -> Tensor:
        """Keys and values are made of one row's states at a time."""
        output = torch.zeros_like(queries)
        heads, width = queries.shape[1:]
        for row, part in _parts(counts):
            if (states := self._states.get(row)) is not None:
                keys, values = (each(states).view(-1, heads, width).transpose(0, 1)[None] for each in (key, value))
                asked = queries[part].transpose(0, 1)[None]
                output[part] = self._read(row, asked, keys, values)[0].transpose(0, 1)
        return output

    def _read(self, row: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """One row's attention: [1, heads, its queries, width], same shape back."""
        return scaled_dot_product_attention(queries, keys, values, scale=1.0)


class WatchedMemory(RaggedMemory):
    """States that remember how much was read of each, where keys and values are made of them.

    Attributes:
        read: for each row float32 [states]: the probability that each state got times the length of its value, the mean
            over heads, summed over queries and layers.
    """

    def __init__(self, states: Sequence[Tensor]) -> None:
        super().__init__(states)
        self.read = [torch.zeros(len(one), device=one.device) for one in states]

    def _read(self, row: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        weight = (queries @ keys.mT).float().softmax(-1)  # [1, heads, queries, states]
        self.read[row] += (weight.sum(2) * values.float().norm(dim=-1)).mean(1)[0]
        return weight.to(values.dtype) @ values


class PaddedMemory:
    """States of different number in one rectangle, for devices that would rather compute than loop."""

    def __init__(self, states: Sequence[Tensor] = ()) -> None:
        self._lengths = [len(one) for one in states]
        self._states = pad_sequence(list(states), batch_first=True) if states else None  # [rows, longest, dim]
        self._mask: Tensor | None = None

    def put(self, row: int, states: Tensor) -> None:
        """A row attends to these from now on; the rectangle grows when it must."""
        self._lengths += [0] * (row + 1 - len(self._lengths))
        self._lengths[row], self._mask = len(states), None
        kept = states.new_zeros(0, 0, states.shape[1]) if self._states is None else self._states
        more = [max(0, row + 1 - kept.shape[0]), max(0, len(states) - kept.shape[1])]
        self._states = pad(kept, (0, 0, 0, more[1], 0, more[0])) if any(more) else kept
        self._states[row, : len(states)] = states

    def forget(self, row: int) -> None:
        """A rectangle keeps its rows until others take their places."""

    @property
    def size(self) -> int:
        """States there are, padding included."""
        return 0 if self._states is None else self._states.shape[0] * self._states.shape[1]

    def pairs(self, counts: Sequence[int]) -> int:
        """(query, state) pairs of one pass, padding included."""
        return self.size * max(counts, default=0)

    def attend(self, queries: Tensor, counts: Sequence[int]) -> Tensor:
        """Attention of all rows at once, its softmax in float32."""
        assert self._states is not None
        asked, back = _rectangle(queries, counts)  # [rows, most, heads, dim]
        scores = torch.bmm(asked.flatten(1, 2), self._states.mT).float()
        weight = scores.masked_fill(self._hidden[:, None], float("-inf")).softmax(-1).to(queries.dtype)
        return back(torch.bmm(weight, self._states).view_as(asked))

    def attend_projected(self, queries: Tensor, counts: Sequence[int], key: Project, value: Project) -> Tensor:
        """Attention of all rows at once, their keys and values made of all states at once."""
        assert self._states is not None
        asked, back = _rectangle(queries, counts)
        split = (*self._states.shape[:2], *queries.shape[1:])
        keys, values = (each(self._states).view(split).transpose(1, 2) for each in (key, value))
        seen = ~self._hidden[:, None, None]  # [rows, 1, 1, longest]
        read = scaled_dot_product_attention(asked.transpose(1, 2), keys, values, attn_mask=seen, scale=1.0)
        return back(read.transpose(1, 2))

    @property
    def _hidden(self) -> Tensor:
        """Which states are padding: [rows, longest]. A row that never had any sees the first, which is zeros."""
        assert self._states is not None
        if self._mask is None:
            lengths = torch.tensor([max(1, length) for length in self._lengths], device=self._states.device)
            self._mask = torch.arange(self._states.shape[1], device=self._states.device) >= lengths[:, None]
        return self._mask


def _parts(counts: Sequence[int]) -> list[tuple[int, slice]]:
    """Each row and where its queries lie."""
    parts, start = [], 0
    for row, count in enumerate(counts):
        parts.append((row, slice(start, start + count)))
        start += count
    return parts


def _rectangle(queries: Tensor, counts: Sequence[int]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Queries as [rows, most, heads, dim], and the way back to [queries, heads, dim]."""
    most, total = max(counts), sum(counts)
    if total == most * len(counts):
        return queries.view(len(counts), most, *queries.shape[1:]), lambda read: read.flatten(0, 1)
    asked = pad_sequence(list(torch.split(queries[:total], list(counts))), batch_first=True)

    def back(read: Tensor) -> Tensor:
        output = torch.cat([row[:count] for row, count in zip(read, counts, strict=True)])
        return pad(output, (0, 0, 0, 0, 0, len(queries) - total))

    return asked, back
