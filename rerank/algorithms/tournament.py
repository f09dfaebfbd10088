"""Tournaments: small groups whose best go on, in a tree that is kept (ListT5), or for points (TourRank)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from rerank.algorithms.answers import order, picked
from rerank.algorithms.heads import check_head, head_of, head_then_rest
from rerank.algorithms.heaps import Asking, alongside
from rerank.errors import InputError
from rerank.questions import Algorithm, Permute, Pick, Plan
from rerank.types import Document, Query, Ranking

__all__ = ["points", "tournament"]


def _tournament(ranking: Ranking, *, head: int = 10, group: int = 5, winners: int = 2) -> Plan:
    """Groups of a few documents send their best to the next level, until one group is left; its best is taken out.

    ListT5 (Yoon et al., 2024, https://arxiv.org/abs/2402.15838). After a document has left, only groups whose members
    have changed are asked again, and a group that was seen before not at all. A group is a set: its documents are shown
    in the order of the list, whatever order they won in, so that the same set is the same question. Incomplete groups
    stay small; a judge that wants a number of documents fills them up itself.

    Args:
        head: how many positions are put in order.
        group: documents per question, at least 2.
        winners: of each group, from 1 to group − 1.

    Raises:
        InputError: when the head holds nothing, or a group has no losers.
    """
    check_head(head)
    if not 0 < winners < group:
        raise InputError(f"winners={winners} of a group of {group}; choose 0 < winners < group")
    known: dict[frozenset[str], list[Document]] = {}
    rank = {document.doc_id: index for index, document in enumerate(ranking.documents)}
    places: list[Document | None] = list(ranking.documents)
    best: list[Document] = []
    for _ in range(min(head, len(places))):
        first = yield from _champion(ranking.query, places, group, winners, known, rank)
        best.append(first)
        places[places.index(first)] = None  # the place stays empty, so that no other group changes
    return head_then_rest(ranking, best)


def _champion(
    query: Query,
    level: list[Document | None],
    group: int,
    winners: int,
    known: dict[frozenset[str], list[Document]],
    rank: Mapping[str, int],
) -> Asking[Document]:
    """The best of those in a level's places, of which at least one is taken."""
    while True:
        groups = [level[at : at + group] for at in range(0, len(level), group)]
        present = [
            sorted((one for one in places if one is not None), key=lambda document: rank[document.doc_id])
            for places in groups
        ]
        new = [members for members in present if len(members) > 1 and _names(members) not in known]
        questions = [Permute(query, tuple(members)) for members in new]
        answers = (yield [*questions]) if questions else []
        for question, answer in zip(questions, answers, strict=True):
            known[_names(question.documents)] = [question.documents[index] for index in order(question, answer)]
        ordered = [known.get(_names(members), members) for members in present]
        if len(groups) == 1:
            return ordered[0][0]
        level = [
            members[place] if place < len(members) else None
            for places, members in zip(groups, ordered, strict=True)
            for place in range(min(winners, len(places)))
        ]


def _names(members: Sequence[Document]) -> frozenset[str]:
    return frozenset(document.doc_id for document in members)


def _points(ranking: Ranking, *, tournaments: int = 10, seed: int = 0) -> Plan:
    """Several tournaments side by side; a document gets a point for each stage that it survives.

    TourRank (Chen et al., 2024, https://arxiv.org/abs/2406.11678): of 100 documents 50, 20, 10, 5 and 2 are picked, in
    groups of 20 and then of 10. Documents are dealt to groups by their rank, so that the first stage's favourites do
    not meet at once, and shown in an order of each tournament's own. With 100 documents 13 questions a tournament in
    5 rounds; longer lists are halved first. Equal points keep the incoming order.

    Args:
        tournaments: how many are held.
        seed: of the orders in which documents are shown.

    Raises:
        InputError: when there is no tournament.
    """
    if tournaments < 1:
        raise InputError(f"tournaments={tournaments}; hold at least 1")
    held = [_held(ranking, random.Random(f"{seed} {number}")) for number in range(tournaments)]
    survived: Counter[str] = Counter()
    for result in (yield from alongside(held)):
        survived.update(result)
    return Ranking.by_score(
        ranking.query, ranking.documents, [float(survived[document.doc_id]) for document in ranking.documents]
    )


def _held(ranking: Ranking, dice: random.Random) -> Asking[list[str]]:
    """One tournament: an id for every stage that its document survived."""
    level, survivors = list(ranking.documents), list[str]()
    for size in _stages(len(level)):
        groups = [dice.sample(members, len(members)) for members in _dealt(level)]
        counts = [size // len(groups) + (number < size % len(groups)) for number in range(len(groups))]
        questions = [Pick(ranking.query, tuple(members), count) for members, count in zip(groups, counts, strict=True)]
        answers = yield [*questions]
        chosen = {
            question.documents[index].doc_id
            for question, answer in zip(questions, answers, strict=True)
            for index in picked(question, answer)
        }
        level = [document for document in level if document.doc_id in chosen]
        survivors += [document.doc_id for document in level]
    return survivors


def _stages(count: int) -> list[int]:
    """How many are left after each stage."""
    sizes = []
    while count > 100:
        count = (count + 1) // 2
        sizes.append(count)
    return sizes + [size for size in (50, 20, 10, 5, 2) if size < count]


def _dealt(level: Sequence[Document]) -> list[list[Document]]:
    """Groups of about 20, of about 10 once there are 50, and one once there are 20."""
    groups = 1 if len(level) <= 20 else -(-len(level) // (10 if len(level) <= 50 else 20))
    return [list(level[number::groups]) for number in range(groups)]


tournament = Algorithm("tournament", _tournament, asks=frozenset({Permute}), exact=head_of)
points = Algorithm("tournament-points", _points, asks=frozenset({Pick}), exact=lambda count, **options: 0)
