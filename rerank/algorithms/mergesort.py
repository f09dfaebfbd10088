"""Merge sort by pairs, with a beam: where a comparison is close, both outcomes are followed.

PairS (Liu et al., 2024, Aligning with Human Judgement, https://arxiv.org/abs/2403.16950).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rerank.algorithms.answers import both_orders, probability
from rerank.algorithms.heaps import Asking, alongside
from rerank.errors import InputError
from rerank.questions import Algorithm, Answer, Compare, Plan
from rerank.types import Document, Query, Ranking

__all__ = ["mergesort"]


@dataclass(frozen=True)
class _Path:
    """A merge on its way: how many documents it has taken of the upper and of the lower run, and how likely that is.

    `taken` says for each step whether the upper run's document went first; `logs` is the sum of the log-probabilities
    of the outcomes it supposes, and `steps` their number.
    """

    taken: tuple[bool, ...] = ()
    upper: int = 0
    lower: int = 0
    logs: float = 0.0
    steps: int = 0

    @property
    def likelihood(self) -> float:
        """The mean log-probability of its steps."""
        return self.logs / self.steps if self.steps else 0.0

    def then(self, upper_first: bool, wins: float) -> _Path:
        likely = max(wins if upper_first else 1.0 - wins, 1e-12)
        return _Path(
            (*self.taken, upper_first),
            self.upper + upper_first,
            self.lower + (not upper_first),
            self.logs + math.log(likely),
            self.steps + 1,
        )


def _mergesort(ranking: Ranking, *, beam: int = 1, gap: float = 0.1) -> Plan:
    """Merge runs of one document, of two, of four …, all runs of a length side by side.

    A pair is asked in both orders; P(upper first) is the mean of what they say, and a comparison that cannot be read
    says 0.5. At 0.5 the upper document stays above, so that ties keep the incoming order. With a beam of one a merge
    of a and b documents asks at most 2 (a + b − 1) questions, in as many rounds as it has steps; in all at most
    2 n ⌈log₂ n⌉ questions. Wider beams ask what each of their paths needs next, and repeated pairs come from memory.

    Args:
        beam: how many paths through a merge are kept, the likeliest first.
        gap: both outcomes of a comparison are followed where P differs from 0.5 by no more than this; 0 to 0.5.

    Raises:
        InputError: when the beam holds no path, or the gap is not from 0 to 0.5.
    """
    if beam < 1 or not 0 <= gap <= 0.5:
        raise InputError(f"beam={beam} and gap={gap}; keep at least 1 path, and choose a gap from 0 to 0.5")
    runs = [[document] for document in ranking.documents]
    while len(runs) > 1:
        pairs = zip(runs[::2], runs[1::2], strict=False)  # a last run without a partner waits
        merges = [_merge(ranking.query, upper, lower, beam, gap) for upper, lower in pairs]
        odd = runs[len(merges) * 2 :]
        runs = [*(yield from alongside(merges)), *odd]
    return Ranking.by_order(ranking, runs[0] if runs else [])


def _merge(query: Query, upper: list[Document], lower: list[Document], beam: int, gap: float) -> Asking[list[Document]]:
    paths = [_Path()]
    while going := [path for path in paths if path.upper < len(upper) and path.lower < len(lower)]:
        places = list(dict.fromkeys((path.upper, path.lower) for path in going))
        pairs = [(upper[one], lower[other]) for one, other in places]
        answers = yield [question for pair in pairs for question in both_orders(query, *pair)]
        wins = dict(zip(places, _both(answers), strict=True))
        done = [path for path in paths if path.upper == len(upper) or path.lower == len(lower)]
        paths = _best([*done, *(step for path in going for step in _steps(path, wins, beam, gap))], beam)
    return _laid_out(paths[0], upper, lower)


def _steps(path: _Path, wins: dict[tuple[int, int], float], beam: int, gap: float) -> Iterable[_Path]:
    chance = wins[path.upper, path.lower]
    if beam > 1 and abs(chance - 0.5) <= gap:
        return path.then(True, chance), path.then(False, chance)
    return (path.then(chance >= 0.5, chance),)


def _best(paths: list[_Path], beam: int) -> list[_Path]:
    """The likeliest; among equals those that leave the upper documents above."""
    return sorted(paths, key=lambda path: (-path.likelihood, [not first for first in path.taken]))[:beam]


def _both(answers: list[Answer]) -> list[float]:
    """P(the first of each pair wins), both orders taken together."""
    said = [0.5 if (chance := probability(answer)) is None else chance for answer in answers]
    return [(there + 1.0 - back) / 2 for there, back in zip(said[::2], said[1::2], strict=True)]


def _laid_out(path: _Path, upper: list[Document], lower: list[Document]) -> list[Document]:
    above, below = iter(upper), iter(lower)
    return [*(next(above if first else below) for first in path.taken), *above, *below]


mergesort = Algorithm("mergesort", _mergesort, asks=frozenset({Compare}), exact=lambda count, **options: count)
