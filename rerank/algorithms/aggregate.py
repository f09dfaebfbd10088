"""Comparisons into scores: how strong each document is, by whom it beats.

Everything starts from one matrix: `wins[i, j]` is how often i came before j, in whole or in part; a tie is half a win
for each. A higher score is better, and equal scores are left to whoever orders by them. Documents that nothing was
compared with get the lowest score there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from rerank.algorithms.centrality import Matrix, eigen, lowest_alone, page_rank, rank_centrality
from rerank.errors import InputError

__all__ = ["AGGREGATES", "Matrix", "bradley_terry", "elo", "matrix_of", "scores_of", "win_rate", "wins_of"]


def win_rate(wins: Matrix) -> Matrix:
    """The share of its comparisons that each document won: [docs, docs] -> [docs], from 0 to 1."""
    played = wins.sum(1) + wins.sum(0)
    rates: Matrix = np.divide(wins.sum(1), played, out=np.zeros(len(wins)), where=played > 0)
    return rates


def bradley_terry(wins: Matrix, *, prior: float = 0.5, tolerance: float = 1e-8, limit: int = 1000) -> Matrix:
    """Log-strengths θ for which P(i beats j) = 1 / (1 + exp(θ_j − θ_i)) fits best, by Newman's iteration.

    Newman, 2023, Efficient computation of rankings from pairwise comparisons (https://arxiv.org/abs/2207.00076).

    Args:
        wins: [docs, docs].
        prior: wins, and as many losses, against a made-up average document (θ = 0). Without it a document that never
            won would be infinitely weak, and parts that were never compared would have no common scale.
        tolerance: the largest change of θ in a sweep at which it stops.
        limit: the most sweeps.

    Raises:
        InputError: when the prior is not above 0.
    """
    if not prior > 0:
        raise InputError(f"prior={prior}; without a prior a document that never lost has no finite strength")
    strength = np.ones(len(wins))
    for _ in range(limit):
        before = strength.copy()
        for one in range(len(wins)):  # in place: each document sees the others' newest strengths
            together = strength[one] + strength
            average = prior / (strength[one] + 1.0)
            strength[one] = (wins[one] @ (strength / together) + average) / (wins[:, one] @ (1.0 / together) + average)
        if np.abs(np.log(strength / before)).max(initial=0.0) < tolerance:
            break
    scores: Matrix = np.log(strength)
    return lowest_alone(scores, wins)


def elo(wins: Matrix, *, rounds: int = 20, step: float = 16.0, seed: int = 0) -> Matrix:
    """Elo ratings, the mean over `rounds` shuffled orders of the games, because a rating depends on who played last.

    Boubdir et al., 2023, Elo Uncovered (https://arxiv.org/abs/2311.17295).

    Args:
        wins: [docs, docs].
        rounds: orders of the games to take the mean over.
        step: the most that one game moves a rating (K); a rating begins at 0, and 400 points are ten to one.
        seed: of the orders.
    """
    if rounds < 1:
        raise InputError(f"rounds={rounds}; the games are played in at least one order")
    winners, losers = np.nonzero(wins)
    worth = wins[winners, losers]
    random = np.random.default_rng(seed)
    ratings = np.zeros((rounds, len(wins)))
    for row in ratings:
        for game in random.permutation(len(worth)):
            winner, loser = winners[game], losers[game]
            surprise = 1.0 / (1.0 + 10.0 ** ((row[winner] - row[loser]) / 400.0))
            row[winner] += step * worth[game] * surprise
            row[loser] -= step * worth[game] * surprise
    return lowest_alone(ratings.mean(0), wins)


def matrix_of(count: int, comparisons: Mapping[tuple[int, int], float | None]) -> Matrix:
    """What was compared, as [count, count]: P(i wins) where i was shown first and j second, nan where it was not asked.

    A comparison that could not be read says nothing for either side: 0.5.
    """
    first_wins: Matrix = np.full((count, count), np.nan)
    for pair, probability in comparisons.items():
        first_wins[pair] = 0.5 if probability is None else probability
    return first_wins


def wins_of(first_wins: Matrix) -> Matrix:
    """Wins where both orders agree, half a win each where they do not (Qin et al., 2023).

    Args:
        first_wins: P(i wins when it is shown first and j second), [docs, docs]; nan where that was not asked.
    """
    there, back = first_wins, first_wins.T
    won: Matrix = ((there > 0.5) & (back < 0.5)).astype(float)
    asked = ~(np.isnan(there) & np.isnan(back))
    tied = asked & (won == 0) & (won.T == 0)
    np.fill_diagonal(tied, False)
    wins: Matrix = won + 0.5 * tied
    return wins


def scores_of(first_wins: Matrix, aggregate: str) -> Matrix:
    """One score a document from comparisons of pairs in both orders: [docs, docs] -> [docs].

    Args:
        first_wins: P(i wins when it is shown first and j second); nan, where that was not asked, counts as 0.5 in the
            sums and gives nobody a win.
        aggregate: a name in `AGGREGATES`.

    Raises:
        InputError: when there is no aggregate of that name.
    """
    if aggregate not in AGGREGATES:
        raise InputError(f"there is no aggregate {aggregate!r}; there is {', '.join(AGGREGATES)}")
    return AGGREGATES[aggregate](first_wins)


def _over_others(values: Matrix, reduce: Callable[..., Matrix], blank: float) -> Matrix:
    """Reduce each row, a document's own place left out."""
    filled = values.copy()
    np.fill_diagonal(filled, blank)
    return np.asarray(reduce(filled, axis=1))


def _read(first_wins: Matrix) -> Matrix:
    return np.where(np.isnan(first_wins), 0.5, first_wins)


def _logs(probabilities: Matrix) -> Matrix:
    logs: Matrix = np.log(np.clip(probabilities, 1e-12, None))  # a certain loss is worth −27.6, not −∞
    return logs


def _sum(first_wins: Matrix) -> Matrix:
    return _over_others(_read(first_wins), np.sum, 0.0)


def _symmetric_sum(first_wins: Matrix) -> Matrix:
    read = _read(first_wins)
    return _over_others(read + 1.0 - read.T, np.sum, 0.0)


def _log_sum(first_wins: Matrix) -> Matrix:
    return _over_others(_logs(_read(first_wins)), np.sum, 0.0)


def _symmetric_log_sum(first_wins: Matrix) -> Matrix:
    read = _read(first_wins)
    return _over_others(_logs(read) + _logs(1.0 - read.T), np.sum, 0.0)


def _binary(first_wins: Matrix) -> Matrix:
    return _over_others((_read(first_wins) > 0.5).astype(float), np.sum, 0.0)


def _least(first_wins: Matrix) -> Matrix:
    return _over_others(_read(first_wins), np.min, np.inf) if len(first_wins) > 1 else np.zeros(len(first_wins))


def _most(first_wins: Matrix) -> Matrix:
    return _over_others(_read(first_wins), np.max, -np.inf) if len(first_wins) > 1 else np.zeros(len(first_wins))


AGGREGATES: Mapping[str, Callable[[Matrix], Matrix]] = MappingProxyType(
    {
        "wins": lambda first_wins: wins_of(first_wins).sum(1),
        "win-rate": lambda first_wins: win_rate(wins_of(first_wins)),
        "sum": _sum,
        "sym-sum": _symmetric_sum,
        "log-sum": _log_sum,
        "sym-log-sum": _symmetric_log_sum,
        "binary": _binary,
        "min": _least,
        "max": _most,
        "bradley-terry": lambda first_wins: bradley_terry(wins_of(first_wins)),
        "elo": lambda first_wins: elo(wins_of(first_wins)),
        "page-rank": lambda first_wins: page_rank(wins_of(first_wins)),
        "eigen": lambda first_wins: eigen(wins_of(first_wins)),
        "rank-centrality": lambda first_wins: rank_centrality(wins_of(first_wins)),
    }
)
"""Names to ways of making scores of pairs. The sums are duoT5's (Pradeep et al., 2021, https://arxiv.org/abs/2101.05667)
and duoBERT's (Nogueira et al., 2019, https://arxiv.org/abs/1910.14424); `wins` is PRP's."""
