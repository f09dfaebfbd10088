"""Overlapping blocks, all asked in one round, and one ranking of what they say together.

JointRank (Dedov, 2025, https://arxiv.org/abs/2506.22262).
"""

from __future__ import annotations

import math
import random
from itertools import combinations

import numpy as np

from rerank.algorithms.aggregate import Matrix, bradley_terry, elo, win_rate
from rerank.algorithms.answers import order
from rerank.algorithms.centrality import eigen, page_rank, rank_centrality
from rerank.errors import InputError
from rerank.questions import Algorithm, Permute, Plan
from rerank.types import Ranking

__all__ = ["blocks", "design_of"]

AGGREGATES = {
    "win-rate": win_rate,
    "bradley-terry": bradley_terry,
    "elo": elo,
    "page-rank": page_rank,
    "eigen": eigen,
    "rank-centrality": rank_centrality,
}
DESIGNS = ("equi-replicate", "latin", "triangular", "random")


def design_of(count: int, *, design: str, block: int, replication: int, seed: int) -> list[list[int]]:
    """Which documents stand in which block: indices below `count`, each block without repetition.

    Args:
        count: documents.
        design: `equi-replicate` cuts `replication` seeded orders of the list into blocks; `latin` lays the list out as
            a square and takes rows and columns (two of each document); `triangular` gives document {a, b} of a complete
            graph to the blocks of a and of b (two of each document); `random` draws as many blocks as equi-replicate
            would have, and may miss documents.
        block: the most documents in a block, at least 2. `latin` and `triangular` choose it themselves, the smallest
            that has room for all.
        replication: in how many blocks a document stands, for the two others.
        seed: of the orders.

    Raises:
        InputError: when there is no such design, or blocks are too small.
    """
    if design not in DESIGNS:
        raise InputError(f"there is no design {design!r}; there is {', '.join(DESIGNS)}")
    if block < 2 or replication < 1:
        raise InputError(f"block={block} and replication={replication}; a block holds at least 2, in at least 1 order")
    dice = random.Random(seed)
    shuffled = dice.sample(range(count), count)
    if design == "latin":
        made = _latin(shuffled)
    elif design == "triangular":
        made = _triangular(shuffled)
    elif design == "random":
        total = math.ceil(count * replication / block)
        made = [dice.sample(range(count), min(block, count)) for _ in range(total)]
    else:
        orders = [dice.sample(range(count), count) for _ in range(replication)]
        parts = math.ceil(count / block)  # of equal size, or one apart, so that every document stands in as many
        made = [one[part::parts] for one in orders for part in range(parts)]
    return [members for members in made if len(members) > 1]


def _latin(items: list[int]) -> list[list[int]]:
    side = math.isqrt(max(0, len(items) - 1)) + 1
    rows = [items[at : at + side] for at in range(0, len(items), side)]
    columns = [items[at::side] for at in range(side)]
    return rows + columns


def _triangular(items: list[int]) -> list[list[int]]:
    points = next(size for size in range(2, len(items) + 3) if size * (size - 1) // 2 >= len(items))
    edges = list(combinations(range(points), 2))
    return [[item for item, edge in zip(items, edges, strict=False) if point in edge] for point in range(points)]


def _blocks(
    ranking: Ranking,
    *,
    design: str = "equi-replicate",
    block: int = 20,
    replication: int = 4,
    aggregate: str = "page-rank",
    seed: int = 0,
) -> Plan:
    """Put every block in order at once; a block tells who came before whom, and all blocks together are aggregated.

    One round. Equal scores, and documents that stand in no block, keep the incoming order; the latter have the lowest
    score. For 100 documents `equi-replicate` with blocks of 20 in 4 orders asks 20 questions, `latin` 20 with blocks
    of 10.

    Args:
        design: equi-replicate, latin, triangular or random (see `design_of`).
        block: the most documents per question.
        replication: in how many blocks a document stands.
        aggregate: win-rate, bradley-terry, elo, page-rank, eigen or rank-centrality.
        seed: of who meets whom.

    Raises:
        InputError: when there is no such design or aggregate, or a block has no two documents.
    """
    if aggregate not in AGGREGATES:
        raise InputError(f"aggregate={aggregate!r}; there is {', '.join(AGGREGATES)}")
    documents = ranking.documents
    made = design_of(len(documents), design=design, block=block, replication=replication, seed=seed)
    questions = [Permute(ranking.query, tuple(documents[index] for index in sorted(members))) for members in made]
    answers = (yield [*questions]) if questions else []
    wins: Matrix = np.zeros((len(documents), len(documents)))
    for members, question, answer in zip(made, questions, answers, strict=True):
        shown = sorted(members)
        for winner, loser in combinations(order(question, answer), 2):
            wins[shown[winner], shown[loser]] += 1.0
    return Ranking.by_score(ranking.query, documents, AGGREGATES[aggregate](wins).tolist())


blocks = Algorithm("blocks", _blocks, asks=frozenset({Permute}), exact=lambda count, **options: 0)
