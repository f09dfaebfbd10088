"""One call of the causal engine: prompts become a trie, the trie is computed in passes, beginnings are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from rerank.engine.decoders.attention import Options, View
from rerank.engine.decoders.kept import Kept, digests
from rerank.engine.decoders.kv_pool import KeyValues, Run, joined
from rerank.engine.decoders.model import Ask, CausalModel, Row
from rerank.engine.decoders.plan import Ids, Mark, Piece, Place, last_uses, passes, places
from rerank.engine.prefix import Trie
from rerank.engine.t5.encoder import Work

__all__ = ["Computation", "Cost", "Watch"]

Wanted: TypeAlias = tuple[Place, int]
"""The last so many tokens of a segment."""

Watch: TypeAlias = Callable[[Wanted, int, Tensor, View, Options], None]
"""Called in every layer with queries that were marked: whose, the layer, [count, heads, dim], what they see, how."""


@dataclass(frozen=True)
class Cost:
    """What a call took.

    Attributes:
        tokens: that were computed.
        reused: tokens of prompts that were not computed again: shared with another prompt of the call, or kept.
        kept: tokens whose keys and values were there from an earlier call; each is counted once.
        padded: rows of filler.
        flops: floating-point operations, two for each multiply-add: every matrix product over the rows it was executed
            for, filler included; attention over the (query, key) pairs that were computed; the wanted rows of the
            output head. In the last layer only what is asked for goes beyond keys and values.
        calls: forward passes.
    """

    tokens: int
    reused: int
    kept: int
    padded: int
    flops: int
    calls: int


class Computation:
    """Prompts on their way through a model.

    Args:
        model: whose.
        pool, kept: where keys and values lie, and what earlier calls left there.
        prompts: their segments, none of them empty.
        marks: what is wanted of them.
        budget: tokens of a forward pass, at most.
        keep: how many of the first segments of each prompt stay for later calls.
        hold: everything stays in the pool until `close`.

    Close it, whatever happens.
    """

    def __init__(
        self,
        model: CausalModel,
        pool: KeyValues,
        kept: Kept,
        prompts: Sequence[Sequence[Ids]],
        marks: Sequence[Mark],
        *,
        budget: int,
        keep: Sequence[int],
        hold: bool = False,
    ) -> None:
        self._model, self._pool, self._kept = model, pool, kept
        self._keys = [digests(prompt) for prompt in prompts]
        self._found = self._beginnings(marks)
        beginnings = [prompt[:count] for prompt, count in zip(prompts, self._found, strict=True)]
        self.trie: Trie[Ids] = Trie(prompts, kept=beginnings)
        self._places = [places(self.trie, prompt) for prompt in range(len(prompts))]
        self._wanted: dict[Place, list[int]] = {}
        for mark in marks:
            counts = self._wanted.setdefault(self._places[mark.prompt][mark.segment], [])
            if mark.count not in counts:
                counts.append(mark.count)
        self._marks, self._budget, self._keep = marks, budget, keep
        staying = {place for path, count in zip(self._places, keep, strict=True) for place in path[:count]}
        self._staying = staying if not hold else {place for path in self._places for place in path}
        self._runs: dict[Place, list[Run]] = {}
        self._owned: set[Place] = set()
        self._fronts: dict[int, tuple[Run, ...]] = {}
        self._hidden: dict[Wanted, list[Tensor]] = {}
        self._calls, self._complete = 0, False
        self._held: list[list[bytes]] = []
        self.work = Work()

    @property
    def cost(self) -> Cost:
        """What it took so far."""
        trie = self.trie
        kept = sum(node.length for node in trie.nodes if node.kept)
        return Cost(trie.shared, trie.reused, kept, self.work.rows - trie.shared, self.work.flops, self._calls)

    def execute(self, watch: Watch | None = None) -> None:
        """Compute everything."""
        self._take_kept()
        parts = passes(self.trie, self._budget)
        finished: dict[int, list[int]] = {}
        for node, use in enumerate(last_uses(self.trie, parts)):
            finished.setdefault(use, []).append(node)
        for number, part in enumerate(parts):
            self._compute(part, watch)
            for node in finished.get(number, ()):
                self._release(node)
        self._complete = True

    def hidden(self) -> list[Tensor]:
        """What was wanted, mark by mark: [count, dim] each."""
        whole = [self._hidden[self.wanted(mark)] for mark in self._marks]
        return [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in whole]

    def wanted(self, mark: Mark) -> Wanted:
        """What a mark marks."""
        return self._places[mark.prompt][mark.segment], mark.count

    def path(self, prompt: int) -> tuple[Run, ...]:
        """Where all tokens of a prompt lie, in order, while they are held."""
        return joined(run for place in self._places[prompt] for run in self._runs[place])

    def close(self) -> None:
        """Keep what shall be kept, and give back everything else."""
        if self._complete:
            self._hand_over()
        for place in list(self._owned):
            self._give_back(place)
        for keys in self._held:
            self._kept.let_go(keys)
        self._held = []
        self._kept.shrink()

    # -- what is kept --------------------------------------------------------------------------------------------

    def _beginnings(self, marks: Sequence[Mark]) -> list[int]:
        """How many of the first segments of each prompt are there; a segment that is marked is computed."""
        marked = {self._keys[mark.prompt][mark.segment] for mark in marks}
        found = []
        for keys in self._keys:
            free = next((index for index, key in enumerate(keys) if key in marked), len(keys))
            found.append(self._kept.found(keys[:free]))
        return found

    def _take_kept(self) -> None:
        for path, keys, count in zip(self._places, self._keys, self._found, strict=True):
            self._hold(keys[:count])
            for place, key in zip(path[:count], keys, strict=False):
                self._runs[place] = list(self._kept.runs(key))

    def _hold(self, keys: list[bytes]) -> None:
        self._kept.hold(keys)
        self._held.append(keys)

    def _hand_over(self) -> None:
        for path, keys, count in zip(self._places, self._keys, self._keep, strict=True):
            for place, key in zip(path[:count], keys, strict=False):
                if place in self._owned and self._kept.add(key, self._runs[place]):
                    self._owned.remove(place)
            self._hold(keys[: self._kept.found(keys[:count])])

    # -- passes --------------------------------------------------------------------------------------------------

    def _compute(self, part: Sequence[Piece], watch: Watch | None) -> None:
        slot = self._pool.allocate(sum(len(piece.ids) for piece in part))
        rows, asks = [], []
        whose: list[Wanted] = []
        for index, piece in enumerate(part):
            rows.append(Row(piece.ids, slot, self._in_front(piece)))
            self._runs.setdefault(piece.place, []).append((slot, len(piece.ids)))
            self._owned.add(piece.place)
            slot += len(piece.ids)
            for count in self._wanted.get(piece.place, ()):
                if (own := self._overlap(piece, count)) > 0:
                    asks.append(Ask(index, own))
                    whose.append((piece.place, count))
        shown = watch and _translated(watch, whose)
        hidden = self._model.forward(rows, asks, self._pool, self.work, shown)
        for wanted, states in zip(whose, torch.split(hidden, [ask.count for ask in asks]), strict=True):
            self._hidden.setdefault(wanted, []).append(states)
        self._calls += 1

    def _overlap(self, piece: Piece, count: int) -> int:
        """How many of the last `count` tokens of a segment are in a piece of it."""
        (node, index), end = piece.place, piece.start + len(piece.ids)
        return end - max(piece.start, len(self.trie.nodes[node].segments[index]) - count)

    def _in_front(self, piece: Piece) -> tuple[Run, ...]:
        """Where everything in front of a piece lies."""
        node, index = piece.place
        own = [run for number in range(index + 1) for run in self._runs.get((node, number), ())]
        return joined([*self._front(node), *own])

    def _front(self, node: int) -> tuple[Run, ...]:
        """Where everything in front of a node lies."""
        if node not in self._fronts:
            above = self.trie.ancestors(node)
            inside = [(parent, index) for parent in above for index in range(len(self.trie.nodes[parent].segments))]
            self._fronts[node] = joined(run for place in inside for run in self._runs[place])
        return self._fronts[node]

    def _release(self, node: int) -> None:
        """Give back what nobody reads any more."""
        for index in range(len(self.trie.nodes[node].segments)):
            if (node, index) in self._owned and (node, index) not in self._staying:
                self._give_back((node, index))

    def _give_back(self, place: Place) -> None:
        for start, length in self._runs.pop(place):
            self._pool.free(start, length)
        self._owned.remove(place)


def _translated(watch: Watch, whose: Sequence[Wanted]) -> Callable[[int, int, Tensor, View, Options], None]:
    def shown(ask: int, layer: int, queries: Tensor, view: View, options: Options) -> None:
        watch(whose[ask], layer, queries, view, options)

    return shown
