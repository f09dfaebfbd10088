"""Comparisons into scores by where a walk over them ends up: PageRank, rank centrality, and the main eigenvector.

As in `rerank.algorithms.aggregate`: `wins[i, j]` is how often i came before j, a higher score is better, and documents
that nothing was compared with get the lowest score there is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rerank.errors import InputError

__all__ = ["Matrix", "eigen", "lowest_alone", "page_rank", "rank_centrality"]

Matrix = NDArray[np.float64]
"""Square, one row and one column for each document."""


def page_rank(wins: Matrix, *, damping: float = 0.85, tolerance: float = 1e-9, limit: int = 1000) -> Matrix:
    """Where a reader ends up who keeps going from a document to one that beat it: [docs, docs] -> [docs], sum 1.

    As JointRank aggregates blocks (https://arxiv.org/abs/2506.22262). A document that lost once sends all it has to
    the one that beat it, so that with few comparisons the second best may come out first.

    Args:
        wins: [docs, docs].
        damping: how often the reader goes on, and does not start anew anywhere.
        tolerance: the change of the sum at which it stops.
        limit: the most steps.
    """
    size = len(wins)
    losses = wins.T.copy()
    losses[losses.sum(1) == 0] = 1.0 / max(1, size)  # who never lost sends the reader anywhere
    going = damping * losses / losses.sum(1, keepdims=True) + (1.0 - damping) / max(1, size)
    share = np.full(size, 1.0 / max(1, size))
    for _ in range(limit):
        share, before = going.T @ share, share
        if np.abs(share - before).sum() < tolerance:
            break
    return lowest_alone(share / share.sum() if size else share, wins)


def rank_centrality(wins: Matrix, *, prior: float = 1.0, tolerance: float = 1e-9, limit: int = 10_000) -> Matrix:
    """The same walk without starting anew: it goes to each opponent by the share of games that the opponent won.

    Negahban et al., 2012, Iterative Ranking from Pair-wise Comparisons (https://arxiv.org/abs/1209.1688).

    Args:
        wins: [docs, docs].
        prior: made-up wins of each side of every pair that was compared (a Beta prior); without it the walk could
            never leave a document that won all its games.
        tolerance: the change of the sum at which it stops.
        limit: the most steps.

    Raises:
        InputError: when the prior is not above 0.
    """
    if not prior > 0:
        raise InputError(f"prior={prior}; without a prior nobody leaves a document that never lost")
    size = len(wins)
    games = wins + wins.T
    met = games > 0
    beaten = np.where(met, (wins.T + prior) / (games + 2 * prior), 0.0)  # [i, j]: how often j beats i
    going = beaten / max(1, met.sum(1).max(initial=0))
    np.fill_diagonal(going, 0.0)
    np.fill_diagonal(going, 1.0 - going.sum(1))
    share = _settled(going.T, np.full(size, 1.0 / max(1, size)), tolerance, limit)
    return lowest_alone(share, wins)


def eigen(wins: Matrix, *, prior: float = 0.5, tolerance: float = 1e-9, limit: int = 10_000) -> Matrix:
    """A document is as strong as those that it beats: the main eigenvector of the wins, sum 1.

    Args:
        wins: [docs, docs].
        prior: wins of everybody over everybody, shared by all opponents; without it nobody's strength reaches
            documents that have beaten none, and where there is no circle all are 0.
        tolerance: the change of the sum at which it stops.
        limit: the most steps.

    Raises:
        InputError: when the prior is not above 0.
    """
    if not prior > 0:
        raise InputError(f"prior={prior}; without a prior a list without contradictions has no eigenvector")
    size = len(wins)
    strength = _settled(wins + prior / max(1, size), np.full(size, 1.0 / max(1, size)), tolerance, limit)
    return lowest_alone(strength, wins)


def lowest_alone(scores: Matrix, wins: Matrix) -> Matrix:
    """Documents without a comparison get the lowest score."""
    alone = (wins.sum(0) + wins.sum(1)) == 0
    if alone.any() and not alone.all():
        scores = np.where(alone, scores[~alone].min(), scores)
    return scores


def _settled(step: Matrix, share: Matrix, tolerance: float, limit: int) -> Matrix:
    """Shares that a step does not change any more, sum 1."""
    for _ in range(limit if len(share) else 0):
        before, share = share, step @ share
        share = share / share.sum()
        if np.abs(share - before).sum() < tolerance:
            break
    return share
