"""Several teachers as one: their scores brought to one scale, by a stated rule, and averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from statistics import fmean, pstdev

from rerank.errors import InputError
from training.examples.record import BadExample, Example
from training.examples.stream import Examples, Read

__all__ = ["NORMALISE", "averaged"]

Scores = Sequence[float]


def _min_max(scores: Scores) -> list[float]:
    low, high = min(scores), max(scores)
    return [(score - low) / (high - low) if high > low else 0.5 for score in scores]


def _z_score(scores: Scores) -> list[float]:
    mean, spread = fmean(scores), pstdev(scores)
    return [(score - mean) / spread if spread else 0.0 for score in scores]


def _by_rank(scores: Scores) -> list[float]:
    """1 for the best, 0 for the worst; equal scores share the mean of their places."""
    if len(scores) == 1:
        return [1.0]
    below = [sum(other < score for other in scores) for score in scores]
    ties = [sum(other == score for other in scores) - 1 for score in scores]
    return [(under + tied / 2) / (len(scores) - 1) for under, tied in zip(below, ties, strict=True)]


NORMALISE: Mapping[str, Callable[[Scores], list[float]]] = {
    "none": list,
    "min-max": _min_max,
    "z-score": _z_score,
    "rank": _by_rank,
}
"""How the scores of one teacher for one query are made comparable with another's."""


def averaged(teachers: Sequence[Iterable[Example]], normalise: str = "z-score") -> Examples:
    """The mean of several teachers' scores for the same examples.

    MarginMSE's T2 is the plain mean of three cross-encoders trained alike (Hofstätter et al., 2020,
    https://arxiv.org/abs/2010.02666): `normalise="none"`. Teachers of other kinds have other scales.

    Args:
        teachers: streams of the same examples, each with the scores of one teacher.
        normalise: for each query: "none", "min-max" (0 to 1), "z-score" (mean 0, standard deviation 1) or "rank" (1 for
            the best, 0 for the worst).

    Returns:
        The first stream's examples, with the mean as scores; those that two streams do not share are refused.

    Raises:
        InputError: when there is no such normalisation, or fewer than two teachers.
    """
    if normalise not in NORMALISE:
        raise InputError(f"normalise={normalise!r}; there is {', '.join(map(repr, NORMALISE))}")
    if len(teachers) < 2:
        raise InputError(f"{len(teachers)} teachers; two or more can be averaged")

    def read() -> Read:
        for number, several in enumerate(zip_longest(*teachers), start=1):
            error = _unlike(several, number)
            yield error if error is not None else _mean(several, NORMALISE[normalise])

    return Examples(read, source="averaging")


def _unlike(several: Sequence[Example | None], number: int) -> BadExample | None:
    where = f"example {number}"
    there = [one for one in several if one is not None]
    if len(there) < len(several):
        return BadExample(
            "unknown query", f"{len(several) - len(there)} of {len(several)} teachers have no more", where
        )
    first = there[0]
    for teacher, one in enumerate(there, start=1):
        if one.query != first.query:
            return BadExample(
                "unknown query", f"teacher {teacher} has {one.query[:40]!r}, not {first.query[:40]!r}", where
            )
        if one.documents != first.documents:
            return BadExample("unknown document", f"teacher {teacher} has others for {first.query[:40]!r}", where)
        if one.scores is None:
            return BadExample("labels of the wrong kind", f"teacher {teacher} has no scores", where)
    return None


def _mean(several: Sequence[Example], normalised: Callable[[Scores], list[float]]) -> Example:
    columns = zip(*(normalised(one.scores or ()) for one in several), strict=True)
    return replace(several[0], scores=tuple(map(fmean, columns)))
