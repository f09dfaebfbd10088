"""Which pairs of documents a pairwise teacher is asked about, and what it says of them.

Sample-efficient distillation of pairwise ranking prompting: of many queries, two percent of the pairs teach a pointwise
student what all of them would; of few they do not (docs/training-data.md has the measurements).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from rerank.algorithms.answers import beats, both_orders, probability
from rerank.errors import InputError
from rerank.questions import Answer, Plan
from rerank.types import Ranking
from training.examples.record import Pair

__all__ = ["STRATEGIES", "PairSampler", "asking"]

STRATEGIES = ("all", "uniform", "rank-aware")


@dataclass(frozen=True, slots=True)
class PairSampler:
    """Chooses pairs.

    Args:
        strategy: "all"; "uniform", every pair with the same chance; or "rank-aware", which favours pairs near the head
            of the list: the chance of ranks i and j grows with 1 / (i + j).
        fraction: of all pairs, above 0 to 1; at least one pair is asked.
        seed: of what is drawn, together with the query.

    Raises:
        InputError: when there is no such strategy, or the fraction is out of its range.
    """

    strategy: str = "uniform"
    fraction: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InputError(f"strategy={self.strategy!r}; there is {', '.join(map(repr, STRATEGIES))}")
        if not 0 < self.fraction <= 1:
            raise InputError(f"fraction={self.fraction}; a share of the pairs is above 0 and at most 1")

    def sample(self, count: int, key: str = "") -> list[tuple[int, int]]:
        """Pairs of indices of a list of so many documents, the higher one first, in the order of the list.

        Args:
            count: documents.
            key: of the list, such as its query: each draws its own.
        """
        every = list(combinations(range(count), 2))
        if self.strategy == "all" or not every:
            return every
        wanted = max(1, round(self.fraction * len(every)))
        dice = random.Random(f"{self.seed} {key}")
        if self.strategy == "uniform":
            return sorted(dice.sample(every, wanted))
        # the keys of Efraimidis and Spirakis (2006): the largest u^(1/w) are a weighted sample without replacement
        keyed = [(dice.random() ** (first + second + 2), (first, second)) for first, second in every]
        return sorted(pair for _, pair in sorted(keyed, reverse=True)[:wanted])


def asking(ranking: Ranking, pairs: Sequence[tuple[int, int]], said: list[Pair], *, soft: bool = False) -> Plan:
    """Ask about these pairs, each in both orders, in one round; what was said is appended to `said`.

    Args:
        ranking: whose documents are compared; comes back as it was.
        pairs: indices of its documents.
        said: (index, index, P(the first wins)) of every pair.
        soft: the mean of the two orders' probabilities; else 1 or 0 where both orders agree and 0.5 where they do not,
            which is how pairwise ranking prompting labels (Qin et al., 2023, https://arxiv.org/abs/2306.17563).
    """
    documents = ranking.documents
    questions = [one for i, j in pairs for one in both_orders(ranking.query, documents[i], documents[j])]
    answers = (yield list(questions)) if questions else []
    for (first, second), there, back in zip(pairs, answers[::2], answers[1::2], strict=True):
        said.append((first, second, _label(there, back, soft)))
    return ranking


def _label(there: Answer, back: Answer, soft: bool) -> float:
    if not soft:
        won = beats(there, back)
        return 0.5 if won is None else float(won)
    first, second = probability(there), probability(back)
    return ((0.5 if first is None else first) + 1 - (0.5 if second is None else second)) / 2
