"""Writing with a T5: so many decoder rows, each a slot that the next request takes in the step after one has ended."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from rerank.engine.t5.choice import Allowed, Sampling, choose
from rerank.engine.t5.decoder import FoldedDecoder
from rerank.engine.t5.encoder import Work
from rerank.engine.t5.memory import Memory
from rerank.engine.t5.slots import Slots
from rerank.errors import InputError, JudgeError

__all__ = ["Head", "Writer"]


class Head(Protocol):
    """The output head of a model."""

    size: int
    """Ids that it can write."""

    def rows(self, ids: Sequence[int] | None) -> Tensor:
        """The rows of some ids, or of all: float32 [ids, dim]."""
        ...

    def read(self, hidden: Tensor, rows: Tensor, work: Work) -> Tensor:
        """Raw logits, float32 [positions, ids]."""
        ...


@dataclass
class _Text:
    """A request in its slot."""

    index: int
    dice: random.Random | None
    fed: int = 0  # ids of the prefix that the decoder has read
    ids: list[int] = field(default_factory=list)


class Writer:
    """Writes one text for each request, at most `rows` of them at a time.

    Args:
        decoder: of the model.
        head: its output head.
        memory: where the states of the requests at work are kept.
        rows: decoder rows of every step; idle ones are computed for nothing, so that the shape is always the same.
        slots: how many of them may be taken.
        prefix: decoder ids read before, the start token first.
        limit: the most ids to write.
        ends: ids that end a text.
        allowed: the only ids that may be written, or None.
        sampling: None writes the likeliest.
    """

    def __init__(
        self,
        decoder: FoldedDecoder,
        head: Head,
        memory: Memory,
        *,
        rows: int,
        slots: int,
        prefix: Sequence[int],
        limit: int,
        ends: frozenset[int],
        allowed: Allowed | None,
        sampling: Sampling | None,
    ) -> None:
        self.steps = 0
        self._decoder, self._head, self._memory = decoder, head, memory
        self._rows, self._prefix, self._limit, self._ends = rows, prefix, limit, ends
        self._allowed, self._sampling = allowed, sampling
        self._free = list(range(slots))[::-1]
        self._live: dict[int, _Text] = {}
        self._slots = Slots(rows, ragged=decoder.settled)
        self._columns: Tensor | None = None  # the ids that columns of logits stand for, None where they are the same
        if not callable(allowed):
            self._head_rows = head.rows(allowed)
            self._columns = None if allowed is None else torch.tensor(allowed, device=self._head_rows.device)

    def write(self, states: Iterator[Tensor], work: Work) -> list[list[int]]:
        """Texts in the order of their states, which are taken one by one as slots become free.

        Raises:
            InputError: when a request allows nothing, or ids that do not exist.
            JudgeError: when the model gives NaN or an infinity; names the request's index.
        """
        done: dict[int, list[int]] = {}
        asked = enumerate(states)
        while True:
            self._refill(asked)
            if not self._live:
                return [done[index] for index in range(len(done))]
            hidden = self._decoder.step(self._next_ids(), self._memory, self._slots, work)
            self.steps += 1
            for text in self._extend(hidden, work):
                done[text.index] = text.ids

    def _refill(self, asked: Iterator[tuple[int, Tensor]]) -> None:
        while self._free and (one := next(asked, None)) is not None:
            row = self._free.pop()
            index, states = one
            self._live[row] = _Text(index, self._sampling.dice(index) if self._sampling else None)
            self._memory.put(row, states)
            self._slots.begin(row)

    def _next_ids(self) -> list[int]:
        """What each row reads next: an id of the prefix, or the last that was written."""
        ids = [0] * self._rows
        for row, text in self._live.items():
            ids[row] = self._prefix[text.fed] if text.fed < len(self._prefix) else text.ids[-1]
            text.fed += 1
        return ids

    def _extend(self, hidden: Tensor, work: Work) -> list[_Text]:
        """Write one more id in each row that has read its prefix; the texts that are done leave their slots."""
        ready = [row for row, text in self._live.items() if text.fed >= len(self._prefix)]
        done = []
        for row, token in zip(ready, self._choose(ready, hidden, work) if ready else [], strict=True):
            text = self._live[row]
            text.ids.append(token)
            if token in self._ends or len(text.ids) == self._limit:
                done.append(text)
                self._leave(row)
        return done

    def _leave(self, row: int) -> None:
        del self._live[row]
        self._memory.forget(row)
        self._slots.end(row)
        self._free.append(row)
        self._free.sort(reverse=True)

    def _choose(self, rows: Sequence[int], hidden: Tensor, work: Work) -> list[int]:
        """The next id of each of these rows; everything comes from the device in one transfer."""
        if callable(self._allowed):
            pairs = [self._among(row, hidden, work) for row in rows]
            best, tokens = (torch.cat(each) for each in zip(*pairs, strict=True))
        else:
            logits = self._head.read(hidden, self._head_rows, work)[list(rows)]
            best, place = logits.amax(-1), self._draw(rows, logits)
            tokens = place if self._columns is None else self._columns[place]
        told = torch.stack([best.double(), tokens.double()]).tolist()
        for row, value in zip(rows, told[0], strict=True):
            self._check(row, value)
        return [int(token) for token in told[1]]

    def _among(self, row: int, hidden: Tensor, work: Work) -> tuple[Tensor, Tensor]:
        """A row's best logit and its next id, of those that its request allows now: [1] both."""
        ids = self._allowed_now(row)
        logits = self._head.read(hidden[row : row + 1], self._head.rows(ids), work)
        return logits.amax(-1), torch.tensor(ids, device=hidden.device)[self._draw([row], logits)]

    def _allowed_now(self, row: int) -> list[int]:
        assert callable(self._allowed)
        text = self._live[row]
        ids = sorted(set(self._allowed(text.index, tuple(text.ids))))
        if not ids or not 0 <= ids[0] <= ids[-1] < self._head.size:
            raise InputError(
                f"allowed gave {ids[:5]} for request {text.index} after {len(text.ids)} ids; "
                f"it must give ids from 0 to {self._head.size - 1}, an end token when the text shall end"
            )
        return ids

    def _draw(self, rows: Sequence[int], logits: Tensor) -> Tensor:
        dice = [self._live[row].dice for row in rows]
        return choose(logits, self._sampling, [one.random() for one in dice if one is not None])

    def _check(self, row: int, value: float) -> None:
        if not abs(value) < float("inf"):
            raise JudgeError(
                f"request {self._live[row].index}: the model gave the logit {value}, which is no finite number; "
                "try dtype='float32'"
            )
