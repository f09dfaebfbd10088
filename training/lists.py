"""The lists of a training run: examples in memory or on disk, of which a few documents may be drawn each epoch."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import Dataset

from rerank.errors import InputError
from training.duplicates import Duplicates
from training.examples import BadExample, Example, open_arrow
from training.examples.arrow import example_at
from training.rewards.orders import agreement

__all__ = ["Alone", "Lists", "Source", "agreeing", "opened", "sampled"]


class Source(Protocol):
    """Examples by their place: a list, or Arrow on disk."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, index: int, /) -> Example:
        """One of them."""


def opened(source: Source | str | Path) -> Source:
    """Examples in memory as they are, those of a folder of Arrow from disk."""
    return _OnDisk(Path(source)) if isinstance(source, str | Path) else source


class _OnDisk:
    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, open_arrow(folder)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        return example_at(self.rows[index], self.folder, index + 1)


class Alone:
    """The documents of examples, each an example of its own: for models that are asked about one at a time.

    Args:
        source: of lists.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._ends = list(accumulate(len(source[index]) for index in range(len(source))))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Example:
        at = bisect_right(self._ends, index)
        example = self.source[at]
        return _kept(example, [index - self._ends[at] + len(example)])


class _Part:
    def __init__(self, source: Source, places: Sequence[int]) -> None:
        self.source, self.places = source, places
        self.left_out = len(source) - len(places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Example:
        return self.source[self.places[index]]


def agreeing(source: Source, least: float) -> Source:
    """The examples whose order has at least this nDCG@10 against their labels; ReasonRank's filter.

    Raises:
        BadExample: when one has no order or no labels.
        InputError: when none is left.
    """
    kept = [index for index in range(len(source)) if _agreement(source[index]) >= least]
    if len(source) and not kept:
        raise InputError(f"none of {len(source):,} lists has an order whose nDCG@10 is {least} or more; allow less")
    return _Part(source, kept)


def _agreement(example: Example) -> float:
    if example.order is None or example.relevance is None:
        carried = ", ".join(sorted(example.labels)) or "no labels"
        detail = f"an order is held against relevance; this example has {carried}"
        raise BadExample("labels of the wrong kind", detail, example.where)
    return agreement(example.order, [max(grade, 0.0) for grade in example.relevance])


class Lists(Dataset[Example]):
    """What a trainer reads, list by list.

    Args:
        source: examples, or a folder of Arrow that `write_arrow` made; it is not held in memory.
        sample: draw so many documents of each list, anew in every epoch: one that is relevant (where there are
            labels) and others that are not; None takes all.
        shuffle: show the documents of each list in another order in every epoch, for students that see the order.
        duplicates: documents that are shown twice, behind the others; None: none are.
        seed: of what is drawn.

    Raises:
        InputError: when there is no example, or `sample` is below 2.
    """

    def __init__(
        self,
        source: Source | str | Path,
        *,
        sample: int | None = None,
        shuffle: bool = False,
        duplicates: Duplicates | None = None,
        seed: int = 0,
    ) -> None:
        self.source: Source = opened(source)
        if not len(self.source):
            raise InputError("there is no example to train on")
        if sample is not None and sample < 2:
            raise InputError(f"sample={sample}; a list that teaches anything has at least 2 documents")
        self.sample, self.shuffle, self.seed, self.epoch = sample, shuffle, seed, 0
        self.duplicates = duplicates

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        choice = random.Random(f"{self.seed} {self.epoch} {index}")
        if self.sample is not None and len(example) > self.sample:
            example = sampled(example, self.sample, choice)
        if self.shuffle:
            example = _kept(example, choice.sample(range(len(example)), len(example)))
        return example if self.duplicates is None else self.duplicates.drawn(example, choice)

    def all(self) -> Iterator[Example]:
        """Whole, in order."""
        return (self.source[index] for index in range(len(self.source)))


def sampled(example: Example, count: int, choice: random.Random) -> Example:
    """A few of an example's documents, in their order: one relevant one where there are labels, and irrelevant ones.

    Args:
        example: with more than `count` documents.
        count: at least 2.
        choice: draws.
    """
    places = range(len(example))
    if example.relevance is None:
        return _kept(example, sorted(choice.sample(places, count)))
    relevant = [place for place in places if example.relevance[place] > 0]
    others = [place for place in places if example.relevance[place] <= 0]
    chosen = choice.sample(relevant, 1 if len(others) >= count - 1 and relevant else min(len(relevant), count))
    return _kept(example, sorted(chosen + choice.sample(others, min(len(others), count - len(chosen)))))


def _kept(example: Example, places: Sequence[int]) -> Example:
    def of(values: tuple[Any, ...] | None) -> Any:
        return None if values is None else tuple(values[place] for place in places)

    new = {place: index for index, place in enumerate(places)}
    order = None if example.order is None else tuple(new[place] for place in example.order if place in new)
    pairs = None
    if example.pairs is not None:
        pairs = tuple((new[one], new[two], wins) for one, two, wins in example.pairs if one in new and two in new)
    return replace(
        example,
        documents=of(example.documents),
        relevance=of(example.relevance),
        scores=of(example.scores),
        doc_ids=of(example.doc_ids),
        logits=of(example.logits),
        order=order,
        pairs=pairs,
        completion=example.completion if list(places) == list(range(len(example))) else None,
    )
