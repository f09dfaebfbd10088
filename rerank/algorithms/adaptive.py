"""Documents that the first stage missed: the neighbours of what was found to be good, in a graph of the corpus.

Good documents lie near other good documents (the cluster hypothesis), so a reranker may follow a graph from those that
it graded high to others that no first stage retrieved. `retrievers.graph` builds such a graph; `Adjacency` is one in
memory.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from itertools import cycle
from typing import Protocol, runtime_checkable

from rerank.algorithms.answers import graded
from rerank.errors import InputError
from rerank.questions import Algorithm, Answer, Grade, Plan, Question
from rerank.types import Document, Ranking

__all__ = ["Adjacency", "Graph", "Without", "gar", "ladr", "ladr_adaptive"]

Asking = Generator[list[Question], list[Answer], None]
"""A part of a plan: it asks, and keeps what was answered."""


@runtime_checkable
class Graph(Protocol):
    """Which documents of a corpus are near which."""

    @property
    def documents(self) -> Sequence[Document]:
        """All of them."""

    def neighbours(self, document: Document) -> Sequence[Document]:
        """Those near a document, the nearest first; perhaps none.

        Raises:
            InputError: when the graph lacks the document: it is one of another corpus.
        """


class Adjacency:
    """A graph in memory.

    Args:
        documents: all of them; their ids are distinct.
        near: doc_id -> ids of its neighbours, the nearest first; a document that is not named has none.

    Raises:
        InputError: when a neighbour is no document of the graph.
    """

    def __init__(self, documents: Iterable[Document], near: Mapping[str, Sequence[str]]) -> None:
        self.documents, self._near = tuple(documents), near
        self._known = {document.doc_id: document for document in self.documents}
        for doc_id in (each for some in near.values() for each in some):
            if doc_id not in self._known:
                raise InputError(f"{doc_id!r} is a neighbour in the graph and no document of it")

    def neighbours(self, document: Document) -> tuple[Document, ...]:
        """See `Graph`."""
        if document.doc_id not in self._known:
            raise InputError(f"document {document.doc_id!r} is not in the graph; give the graph of its corpus")
        return tuple(self._known[doc_id] for doc_id in self._near.get(document.doc_id, ()))

    def __str__(self) -> str:
        return f"a graph of {len(self.documents):,} documents in memory"


class Without:
    """A graph in which some documents are nobody's neighbours: a query must not find them.

    Args:
        graph: with them.
        doc_ids: of these documents.
    """

    def __init__(self, graph: Graph, doc_ids: Collection[str]) -> None:
        self._graph, self._without = graph, frozenset(doc_ids)

    @property
    def documents(self) -> Sequence[Document]:
        """See `Graph`."""
        return self._graph.documents

    def neighbours(self, document: Document) -> list[Document]:
        """See `Graph`."""
        return [near for near in self._graph.neighbours(document) if near.doc_id not in self._without]


def _gar(
    ranking: Ranking, *, graph: str | Graph | None = None, budget: int = 100, batch: int = 16, neighbours: int = 0
) -> Plan:
    """Grade a batch from the list, then one from the frontier, and so on in turns until the budget is spent.

    Graph-based adaptive reranking (MacAvaney et al., 2022, https://arxiv.org/abs/2208.08942). The frontier holds the
    neighbours of everything graded so far; first in it are those of the documents with the highest grades. Where one of
    the two is empty, the other is asked about. As many rounds as batches.

    Args:
        graph: of the corpus.
        budget: documents that are graded, wherever they come from.
        batch: documents of a round.
        neighbours: of a document that are followed, the nearest; 0: as many as the graph has.

    Raises:
        InputError: when there is no graph, a number is out of range, or the graph is one of another corpus.
    """
    _check("gar", graph, budget=(budget, 1), batch=(batch, 1), neighbours=(neighbours, 0))
    walk = _Walk(ranking, graph, neighbours)
    for from_list in cycle((True, False)):
        size = min(batch, budget - len(walk.grades))
        pools = (walk.left(), walk.frontier()) if from_list else (walk.frontier(), walk.left())
        if not (asked := (pools[0] or pools[1])[:size]):
            break
        yield from walk.grade(asked)
        walk.extend(asked)
    return walk.ranking()


def _ladr(
    ranking: Ranking, *, graph: str | Graph | None = None, seeds: int = 0, neighbours: int = 0, budget: int = 0
) -> Plan:
    """Grade the first documents of the list and all their neighbours, in one round.

    Lexically accelerated dense retrieval, the proactive kind (Kulkarni et al., 2023,
    https://arxiv.org/abs/2307.16779), whose judge is a bi-encoder; any that grades will do.

    Args:
        graph: of the corpus.
        seeds: documents of the list; 0: all of them.
        neighbours: of a document that are followed, the nearest; 0: as many as the graph has.
        budget: documents that are graded; 0: any number. Seeds come before neighbours, those of the first seed first.

    Raises:
        InputError: as of `gar`.
    """
    _check("ladr", graph, seeds=(seeds, 0), neighbours=(neighbours, 0), budget=(budget, 0))
    walk = _Walk(ranking, graph, neighbours)
    first = ranking.documents[: seeds or None]
    near = walk.near(first)
    yield from walk.grade(_distinct([*first, *near])[: budget or None])
    return walk.ranking()


def _ladr_adaptive(
    ranking: Ranking,
    *,
    graph: str | Graph | None = None,
    seeds: int = 0,
    neighbours: int = 0,
    depth: int = 100,
    budget: int = 0,
) -> Plan:
    """Grade the first documents of the list, and then the neighbours of the best until these bring nothing new.

    Lexically accelerated dense retrieval, the adaptive kind (Kulkarni et al., 2023,
    https://arxiv.org/abs/2307.16779). A round asks about all neighbours of the best `depth` that nobody graded yet.

    Args:
        graph, seeds, neighbours, budget: as of `ladr`; neighbours of better documents come first.
        depth: how many of the best are followed, c in the paper.

    Raises:
        InputError: as of `gar`.
    """
    numbers = {"seeds": (seeds, 0), "neighbours": (neighbours, 0), "depth": (depth, 1), "budget": (budget, 0)}
    _check("ladr-adaptive", graph, **numbers)
    walk = _Walk(ranking, graph, neighbours)
    asked = list(ranking.documents[: seeds or None])
    while asked := asked[: budget - len(walk.grades) if budget else None]:
        yield from walk.grade(asked)
        asked = walk.near(walk.best(depth))
    return walk.ranking()


class _Walk:
    """What was graded on the way from a list into a graph.

    Args:
        ranking: the list.
        graph: of its corpus.
        most: neighbours of a document that are followed; 0: all.
    """

    def __init__(self, ranking: Ranking, graph: str | Graph | None, most: int) -> None:
        assert isinstance(graph, Graph)
        self._ranking, self._graph, self._most = ranking, graph, most or None
        self._known = {document.doc_id: document for document in ranking.documents}
        self._frontier: dict[str, float] = {}
        self.grades: dict[str, float] = {}

    def grade(self, documents: Sequence[Document]) -> Asking:
        """Ask about documents; no round when there are none."""
        if not documents:
            return
        answers = yield [Grade(self._ranking.query, document) for document in documents]
        for document, grade in zip(documents, graded(answers), strict=True):
            self.grades[document.doc_id] = grade
            self._frontier.pop(document.doc_id, None)

    def left(self) -> list[Document]:
        """Those of the list that nobody graded, in its order."""
        return [document for document in self._ranking.documents if document.doc_id not in self.grades]

    def extend(self, documents: Sequence[Document]) -> None:
        """Put the neighbours of graded documents into the frontier, each with the best grade that leads to it."""
        for document in sorted(documents, key=lambda document: -self.grades[document.doc_id]):
            grade = self.grades[document.doc_id]
            for near in self.near([document]):
                self._frontier[near.doc_id] = max(grade, self._frontier.get(near.doc_id, grade))

    def frontier(self) -> list[Document]:
        """Neighbours that nobody graded; those of the highest grades first, of equal ones who came in first."""
        best_first = sorted(self._frontier, key=lambda doc_id: -self._frontier[doc_id])
        return [self._known[doc_id] for doc_id in best_first]

    def near(self, documents: Iterable[Document]) -> list[Document]:
        """Neighbours of these that nobody graded, in the order of the documents."""
        found = (near for document in documents for near in self._graph.neighbours(document)[: self._most])
        return _distinct(self._known.setdefault(near.doc_id, near) for near in found if near.doc_id not in self.grades)

    def best(self, count: int) -> list[Document]:
        """The documents of the highest grades."""
        best_first = sorted(self.grades, key=lambda doc_id: -self.grades[doc_id])
        return [self._known[doc_id] for doc_id in best_first[:count]]

    def ranking(self) -> Ranking:
        """The graded documents by their grades, and below them those of the list that nobody graded."""
        documents = [self._known[doc_id] for doc_id in self._listed_first()]
        grades = [self.grades[document.doc_id] for document in documents]
        return Ranking.by_score(self._ranking.query, documents, grades).then(self.left())

    def _listed_first(self) -> list[str]:
        """Ids of the graded documents in the order in which equal grades stay: the list's, then as they were found."""
        listed = [document.doc_id for document in self._ranking.documents if document.doc_id in self.grades]
        return list(dict.fromkeys([*listed, *self.grades]))


def _distinct(documents: Iterable[Document]) -> list[Document]:
    return list({document.doc_id: document for document in documents}.values())


def _check(name: str, graph: str | Graph | None, **numbers: tuple[int, int]) -> None:
    for option, (value, least) in numbers.items():
        if value < least:
            raise InputError(f"{option}={value}; choose at least {least}")
    if graph is None:
        raise InputError(f"{name} follows a graph of the corpus: give the option graph= a folder of `rerank graph`")
    if not isinstance(graph, Graph):
        raise InputError(f"graph={graph!r} is not opened; a Reranker opens it, and so does CorpusGraph.open")


def _exact(count: int, **options: object) -> int:
    return 0


ASKS = frozenset({Grade})

gar = Algorithm("gar", _gar, asks=ASKS, exact=_exact)
ladr = Algorithm("ladr", _ladr, asks=ASKS, exact=_exact)
ladr_adaptive = Algorithm("ladr-adaptive", _ladr_adaptive, asks=ASKS, exact=_exact)
