"""Several runs into one, by rank or by score.

Pure functions of plain numbers. A run here is query_id -> doc_id -> score, best first: the order of the mapping is the
ranking. Queries that only some runs have are fused from those that have them.

Equal fused scores are broken by the rank in the first run that holds the document, then by who appeared first there
or in the runs after it; so the result does not depend on chance, only on the order of the runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TypeAlias

from rerank.errors import InputError
from rerank.registry import unknown
from rerank.types import Scores

__all__ = ["METHODS", "Method", "Tuned", "fuse", "tune"]

Ranked: TypeAlias = Mapping[str, float]
"""One query of one run: doc_id -> score, best first."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to fuse: what each run gives each document is weighted and summed.

    Args:
        summary: one line for `--help`.
        points: (one query of one run, number of distinct documents in all runs, k) -> doc_id -> points.
        times_runs: multiply the sum by the number of runs that hold the document.
        rest: (documents in the run, in all runs) -> points of a document that the run lacks.
        needs_weights: refuse to guess them.
    """

    summary: str
    points: Callable[[Ranked, int, int], dict[str, float]]
    times_runs: bool = False
    rest: Callable[[int, int], float] = lambda held, union: 0.0
    needs_weights: bool = False


def reciprocal_rank(ranked: Ranked, union: int, k: int) -> dict[str, float]:
    """1 / (k + rank), the rank counted from 1."""
    return {doc_id: 1 / (k + rank) for rank, doc_id in enumerate(ranked, start=1)}


def min_max(ranked: Ranked, union: int, k: int) -> dict[str, float]:
    """Scores moved to 0 … 1; when all are equal, 1: what was retrieved stands above what was not."""
    low, high = min(ranked.values()), max(ranked.values())
    if low == high:
        return dict.fromkeys(ranked, 1.0)
    if math.isinf(high - low):  # halves are exact here, and their differences finite
        return min_max({doc_id: score / 2 for doc_id, score in ranked.items()}, union, k)
    return {doc_id: (score - low) / (high - low) for doc_id, score in ranked.items()}


def borda(ranked: Ranked, union: int, k: int) -> dict[str, float]:
    """One point for every document of all runs that stands below it, were the run's list complete."""
    return {doc_id: float(union - rank) for rank, doc_id in enumerate(ranked, start=1)}


def borda_rest(held: int, union: int) -> float:
    """The mean of the points that the run has not given out: the documents that it lacks share them."""
    return (union - held - 1) / 2


METHODS: Mapping[str, Method] = {
    "rrf": Method("reciprocal rank fusion: the sum of 1 / (k + rank) (Cormack et al., 2009)", reciprocal_rank),
    "combsum": Method("the sum of min-max normalised scores (Fox and Shaw, 1994)", min_max),
    "combmnz": Method("CombSUM times the number of runs that hold the document", min_max, times_runs=True),
    "weighted": Method("the weighted sum of min-max normalised scores", min_max, needs_weights=True),
    "borda": Method("one point per document beaten (Aslam and Montague, 2001)", borda, rest=borda_rest),
}
"""What `fuse(method=…)` may be."""


def fuse(
    runs: Sequence[Scores], method: str = "rrf", *, weights: Sequence[float] | None = None, k: int = 60
) -> dict[str, dict[str, float]]:
    """Several runs into one.

    Args:
        runs: two or more, each query_id -> doc_id -> score, best first.
        method: a name in `METHODS`.
        weights: one per run, 0 or more, for any method; 1 each when left out, except by `weighted`, which wants them.
        k: of `rrf` alone: larger values make the heads of the runs count less.

    Returns:
        query_id -> doc_id -> fused score, best first; queries in order of their first appearance.

    Raises:
        UnknownName: when no method has the name.
        InputError: with fewer than two runs, weights that do not fit them or are so large that sums are infinite, a
            negative k, or a score that is not finite.
    """
    if method not in METHODS:
        raise unknown("fusion method", method, METHODS)
    if len(runs) < 2:
        raise InputError(f"fusion needs two runs or more; there {'is 1' if len(runs) == 1 else 'are none'}")
    if k < 0:
        raise InputError(f"k is {k}; it must be 0 or more, such as 60")
    weights = _weights(method, weights, len(runs))
    for run in runs:
        _check_scores(run)
    query_ids = dict.fromkeys(query_id for run in runs for query_id in run)
    return {query_id: _fuse_query(query_id, runs, METHODS[method], weights, k) for query_id in query_ids}


@dataclass(frozen=True, slots=True)
class Tuned:
    """Weights that did best.

    Args:
        weights: one per run, sum 1.
        value: what they gave.
        equal: what equal weights gave.
        tried: how many were tried.
    """

    weights: tuple[float, ...]
    value: float
    equal: float
    tried: int


def tune(
    runs: Sequence[Scores],
    value: Callable[[Mapping[str, Mapping[str, float]]], float],
    method: str = "weighted",
    *,
    k: int = 60,
) -> Tuned:
    """The weights whose fused run is worth most, on queries with judgments that are not those to be reported.

    All weights in steps of a tenth that sum to 1 are tried; with five runs or more in larger steps, so that there are
    at most `MOST_TRIED` of them. Among equals the most even ones are taken.

    Args:
        runs: two or more, of development queries, each query_id -> doc_id -> score, best first.
        value: of a fused run: a mean of a measure over its queries.
        method: a name in `METHODS`.
        k: of `rrf` alone.

    Raises:
        UnknownName, InputError: as `fuse` does.
    """
    equal = [1.0 / len(runs)] * len(runs)
    found = {tuple(equal): value(fuse(runs, method, weights=equal, k=k))}
    for weights in _mixtures(len(runs)):
        found[weights] = value(fuse(runs, method, weights=weights, k=k))
    best = max(found, key=lambda weights: (found[weights], -max(weights)))
    return Tuned(best, found[best], found[tuple(equal)], len(found))


MOST_TRIED = 300


def _mixtures(count: int) -> Iterator[tuple[float, ...]]:
    """All weights of so many runs in equal steps, which are as small as there may be points."""
    parts = next(parts for parts in range(10, 0, -1) if parts == 1 or math.comb(parts + count - 1, parts) <= MOST_TRIED)
    for bars in combinations(range(parts + count - 1), count - 1):
        ends = (-1, *bars, parts + count - 1)
        yield tuple((end - start - 1) / parts for start, end in pairwise(ends))


def _weights(method: str, weights: Sequence[float] | None, count: int) -> Sequence[float]:
    if weights is None:
        if METHODS[method].needs_weights:
            raise InputError(f"the fusion method {method!r} needs weights, one for each of the {count} runs")
        return [1.0] * count
    if len(weights) != count:
        raise InputError(f"there are {count} runs but {len(weights)} weights; give one for each run")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise InputError(f"the weights are {list(weights)}; they must be 0 or more, and one of them above 0")
    return weights


def _check_scores(run: Scores) -> None:
    for query_id, ranked in run.items():
        for doc_id, score in ranked.items():
            if not math.isfinite(score):
                raise InputError(f"document {doc_id!r} of query {query_id!r} has the score {score}; scores are finite")


def _fuse_query(
    query_id: str, runs: Sequence[Scores], method: Method, weights: Sequence[float], k: int
) -> dict[str, float]:
    parts = [(run[query_id], weight) for run, weight in zip(runs, weights, strict=True) if run.get(query_id)]
    first_rank = _first_ranks([ranked for ranked, _ in parts])
    points: dict[str, list[float]] = {doc_id: [] for doc_id in first_rank}
    for ranked, weight in parts:
        given = method.points(ranked, len(points), k)
        rest = method.rest(len(ranked), len(points))
        for doc_id, collected in points.items():
            collected.append(weight * given.get(doc_id, rest))
    held = {doc_id: sum(doc_id in ranked for ranked, _ in parts) if method.times_runs else 1 for doc_id in points}
    fused = {doc_id: _sum(collected, weights) * held[doc_id] for doc_id, collected in points.items()}
    if not all(map(math.isfinite, fused.values())):
        raise _too_large(weights)
    best_first = sorted(fused, key=lambda doc_id: (-fused[doc_id], first_rank[doc_id]))
    return {doc_id: fused[doc_id] for doc_id in best_first}


def _sum(collected: Sequence[float], weights: Sequence[float]) -> float:
    """The exact sum, so that equal sums tie."""
    try:
        return math.fsum(collected)
    except (OverflowError, ValueError) as error:  # the sum of finite points, or of infinities of both signs
        raise _too_large(weights) from error


def _too_large(weights: Sequence[float]) -> InputError:
    return InputError(f"the weights are {list(weights)}, and fused scores become infinite; make all of them smaller")


def _first_ranks(parts: Sequence[Ranked]) -> dict[str, int]:
    """doc_id -> rank in the first run that holds it, in order of appearance."""
    ranks: dict[str, int] = {}
    for ranked in parts:
        for rank, doc_id in enumerate(ranked, start=1):
            ranks.setdefault(doc_id, rank)
    return ranks
