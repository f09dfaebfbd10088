"""A curriculum: samples that a first stage makes easy weigh more, until all of them weigh the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from rerank.errors import InputError
from rerank.registry import did_you_mean, unknown
from training.examples import Example
from training.lists import Source
from training.losses import curriculum as ease
from training.losses.masked import pairs, places, positives

__all__ = ["SAMPLES", "Curriculum", "Worths"]

Sample = Literal["documents", "pairs", "lists"]

SAMPLES: Mapping[str, Sample] = {
    "bce": "documents",
    "group-ce": "lists",
    "hinge": "pairs",
    "infonce": "lists",
    "pair-logistic": "pairs",
    "softmax": "lists",
}
"""Losses that can weigh their samples -> what these are. A list is as easy as its hardest pair."""


def _reciprocal(scores: Tensor, mask: Tensor) -> Tensor:
    return ease.reciprocal(places(scores, mask))


BY: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "density": ease.density,
    "min-max": ease.spread,
    "reciprocal": _reciprocal,
}
"""How a first stage's scores become worths from 0 to 1, list by list."""


@dataclass(frozen=True)
class Curriculum:
    """Begin with what a first stage has right already (MacAvaney et al., 2020, https://arxiv.org/abs/2004.14269).

    A sample weighs D (1 - p) + p at a step, with p = min(step, steps) / steps. D is w of a relevant document, 1 - w of
    another, and (w⁺ - w⁻ + 1) / 2 of a pair; w is what the first stage thought of a document. The weight goes with the
    sample's own loss, before any mean.

    Args:
        by: "reciprocal", 1 / rank by the first stage; "min-max", its score between the lowest and the highest of the
            list; "density", the share of the list's scores that are lower, smoothed.
        steps: optimiser steps until all samples weigh the same.

    Raises:
        UnknownName: when there is no such way.
        InputError: when there are no steps.
    """

    by: str
    steps: int

    def __post_init__(self) -> None:
        if self.by not in BY:
            raise unknown("way to tell what is easy", self.by, BY)
        if self.steps < 1:
            raise InputError(f"a curriculum over {self.steps} steps; say at least 1")

    def check(self, loss: str) -> None:
        """See that a loss has samples to weigh.

        Raises:
            InputError: naming those that have.
        """
        if loss not in SAMPLES:
            raise InputError(
                f"a curriculum weighs documents, pairs or lists one by one, which loss {loss!r} does not; use "
                f"{', '.join(SAMPLES)}{did_you_mean(loss, SAMPLES)}"
            )

    def worth(self, example: Example) -> tuple[float, ...] | None:
        """w of each document, out of the first stage's scores; without any, out of its order where ranks are enough.

        None: out of neither.
        """
        values: tuple[float, ...] | None = example.scores
        if values is None and self.by == "reciprocal" and example.order is not None:
            ranks = {index: rank for rank, index in enumerate(example.order)}
            values = tuple(-float(ranks[index]) for index in range(len(example)))
        if values is None:
            return None
        scores = torch.tensor([values], dtype=torch.float64)
        return tuple(BY[self.by](scores, torch.ones_like(scores, dtype=torch.bool))[0].tolist())

    def weights(self, loss: str, worth: Tensor, labels: Tensor, mask: Tensor, step: int) -> Tensor:
        """What each sample weighs.

        Args:
            loss: of `SAMPLES`.
            worth: w of each document, [queries, docs].
            labels: [queries, docs]; above 0 is relevant.
            mask: bool [queries, docs]; False is padding.
            step: of the optimiser, from 0.

        Returns:
            [queries, docs] for documents, [queries, docs (i), docs (j)] for pairs of which i is the more relevant, and
            [queries] for lists.
        """
        samples = SAMPLES[loss]
        if samples == "documents":
            found = ease.point_ease(worth, positives(labels, mask))
        else:
            found = ease.pair_ease(worth[:, :, None], worth[:, None, :])
        if samples == "lists":
            found = found.masked_fill(~pairs(labels, mask), 1.0).amin((1, 2))
        return ease.curriculum_weights(found, step, self.steps)


class Worths:
    """Examples whose scores are what their first stage thought of each document, from 0 to 1, in the whole list.

    Args:
        source: examples whose scores or order are a first stage's.
        curriculum: says how.
    """

    def __init__(self, source: Source, curriculum: Curriculum) -> None:
        self.source, self.curriculum = source, curriculum

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        return replace(example, scores=self.curriculum.worth(example))
