"""Negatives from any retriever or run: once, drawn anew each epoch, or retrieved anew each epoch."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypeAlias

from rerank.errors import InputError
from rerank.types import Document, Qrels, Query, Ranking, Scores
from training.examples.record import BadExample
from training.examples.stream import Examples, Read
from training.examples.texts import Texts
from training.mining.choosing import Judged, choose
from training.mining.rules import Rules

__all__ = ["Negatives", "Scoring", "mine", "retrieved", "sample"]

AT_ONCE = 64
"""Queries whose positives are looked up, and whose candidates a teacher scores, together."""

Scoring: TypeAlias = Callable[[Sequence[Ranking]], Sequence[Mapping[str, float]]]
"""A teacher: rankings in, doc_id -> score of each out (`training.teacher.scored_by`)."""


class FirstStage(Protocol):
    """What retrieves: any retriever or pipeline of the toolkit."""

    def retrieve(
        self, queries: Sequence[Query], cutoff: int, *, exclude: Mapping[str, Collection[str]] = ...
    ) -> list[Ranking]:
        """The best documents of each query."""


def mine(
    rankings: Iterable[Ranking] | Callable[[], Iterable[Ranking]],
    qrels: Qrels,
    *,
    rules: Rules | None = None,
    texts: Texts | None = None,
    teacher: Scoring | Scores | None = None,
    corpus: Sequence[Document] = (),
    seed: int = 0,
    epoch: int = 0,
    **options: Any,
) -> Examples:
    """Examples with the relevant documents of each query first, and negatives behind them.

    A document that is judged relevant never becomes a negative, and of documents with one text, but for case and
    spaces, one does. What is left out is counted by reason in the stream's `counts.notes`.

    Args:
        rankings: the candidates; called at the beginning of every reading when it is a function.
        qrels: query_id -> doc_id -> relevance; queries without a relevant document are refused.
        rules: which negatives; `Rules()` by default.
        texts: where relevant documents are found that the rankings lack.
        teacher: scores candidates and positives in place of the rankings: for margins that filter false negatives, and
            as labels of the examples. A function of rankings, or query_id -> doc_id -> score.
        corpus: a sample of the collection (`sample`), for `rules.randoms`.
        seed, epoch: of what is drawn, together with the query's id: neither order nor batch of the queries matters.
        options: of `Examples`: needs, max_documents, strict.

    Raises:
        InputError: when random negatives are asked for and there is no corpus; while reading, when scores are missing
            that a margin needs.
    """
    rules = rules or Rules()
    if rules.randoms and not corpus:
        raise InputError(f"{rules.randoms} random negatives are asked for; give a sample of the collection as corpus")
    begin = rankings if callable(rankings) else lambda: rankings

    def read() -> Read:
        for chunk in _chunks(begin()):
            for judged in _judged(chunk, qrels, rules, texts, teacher):
                if isinstance(judged, BadExample):
                    yield judged
                else:
                    yield from choose(judged, rules, corpus, f"{seed} {epoch} {judged.ranking.query.query_id}")

    return Examples(read, **{"source": "mining", **options})


class Negatives:
    """Negatives for many epochs: `examples(epoch)` draws them.

    Static sets (STAR: Zhan et al., 2021, https://arxiv.org/abs/2104.08051): the candidates stay, what is drawn of them
    changes: `Negatives.static(rankings, qrels, rules=Rules(sampling="random", last_rank=200, randoms=8), corpus=…)`.
    Dynamic sets (ADORE, the same paper): the model that is trained retrieves again: `Negatives.dynamic(…)`.

    Args:
        rankings: epoch -> candidates.
        qrels: as of `mine`.
        options: of `mine`.
    """

    def __init__(self, rankings: Callable[[int], Iterable[Ranking]], qrels: Qrels, **options: Any) -> None:
        self._rankings, self._qrels, self._options = rankings, qrels, options

    @classmethod
    def static(cls, rankings: Sequence[Ranking], qrels: Qrels, **options: Any) -> Negatives:
        """The same candidates in every epoch."""
        return cls(lambda epoch: rankings, qrels, **options)

    @classmethod
    def dynamic(
        cls,
        retriever: FirstStage,
        queries: Sequence[Query],
        qrels: Qrels,
        *,
        cutoff: int = 200,
        every: int = 1,
        exclude: Mapping[str, Collection[str]] | None = None,
        **options: Any,
    ) -> Negatives:
        """Candidates that the retriever finds as it is when they are wanted.

        Args:
            retriever: whose model is being trained.
            queries: to retrieve for.
            qrels: as of `mine`.
            cutoff: how many documents for each query.
            every: retrieve again after so many epochs; in between, what was found stays and is drawn from anew.
            exclude: query_id -> ids that are not to be found.
            options: of `mine`.

        Raises:
            InputError: when `every` is below 1.
        """
        if every < 1:
            raise InputError(f"every={every}; retrieve again after at least 1 epoch")
        found: dict[int, list[Ranking]] = {}

        def rankings(epoch: int) -> list[Ranking]:
            age = epoch // every
            if age not in found:
                found.clear()
                found[age] = list(retrieved(retriever, queries, cutoff, exclude))
            return found[age]

        return cls(rankings, qrels, **options)

    def examples(self, epoch: int = 0) -> Examples:
        """The examples of an epoch; the same each time for the same candidates, seed and epoch."""
        return mine(lambda: self._rankings(epoch), self._qrels, epoch=epoch, **self._options)


def retrieved(
    retriever: FirstStage,
    queries: Sequence[Query],
    cutoff: int,
    exclude: Mapping[str, Collection[str]] | None = None,
) -> Iterator[Ranking]:
    """What a retriever finds for each query, some queries at a time, so that no run has to fit into memory."""
    for chunk in _chunks(queries):
        yield from retriever.retrieve(chunk, cutoff, exclude=exclude or {})


def sample(documents: Iterable[Document], count: int, seed: int = 0) -> list[Document]:
    """A uniform sample of a stream of documents, which need not fit into memory (Vitter, 1985, algorithm R)."""
    dice = random.Random(seed)
    stream = iter(documents)
    kept = list(islice(stream, count))
    for seen, document in enumerate(stream, start=len(kept) + 1):
        place = dice.randrange(seen)
        if place < count:
            kept[place] = document
    return kept


def _judged(
    rankings: Sequence[Ranking], qrels: Qrels, rules: Rules, texts: Texts | None, teacher: Scoring | Scores | None
) -> Iterator[Judged | BadExample]:
    """Rankings with their positives and the teacher's scores; and queries that have no positive."""
    grades = [qrels.get(ranking.query.query_id, {}) for ranking in rankings]
    wanted = [[one for one, grade in judged.items() if grade >= rules.relevant_from] for judged in grades]
    known = _positives(rankings, wanted, texts)
    whole: list[tuple[Ranking, tuple[Document, ...], frozenset[str]]] = []
    for ranking, ids, judged in zip(rankings, wanted, grades, strict=True):
        where = f"query {ranking.query.query_id}"
        for doc_id in ids:
            if doc_id not in known:
                yield BadExample("unknown document", f"{doc_id!r} is relevant, and its text is nowhere", where)
        positives = tuple(known[doc_id] for doc_id in ids if doc_id in known)
        if not ids:
            yield BadExample("no relevant document", f"none is judged so from {rules.relevant_from} on", where)
        elif positives:
            whole.append((ranking, positives, frozenset(one for one, grade in judged.items() if grade > 0)))
    taught = _taught([(ranking, positives) for ranking, positives, _ in whole], teacher)
    for (ranking, positives, relevant), scores in zip(whole, taught, strict=True):
        yield Judged(ranking, positives, relevant, scores)


def _positives(
    rankings: Sequence[Ranking], wanted: Sequence[Sequence[str]], texts: Texts | None
) -> dict[str, Document]:
    known = {document.doc_id: document for ranking in rankings for document in ranking.documents}
    missing = {doc_id for ids in wanted for doc_id in ids if doc_id not in known}
    found = texts.find(sorted(missing)) if texts is not None and missing else {}
    return known | {doc_id: Document(doc_id, text) for doc_id, text in found.items()}


def _taught(
    whole: Sequence[tuple[Ranking, tuple[Document, ...]]], teacher: Scoring | Scores | None
) -> Sequence[Mapping[str, float] | None]:
    """doc_id -> the teacher's score, for the candidates and the positives of every ranking."""
    if teacher is None:
        return [None] * len(whole)
    if not callable(teacher):
        return [teacher.get(ranking.query.query_id, {}) for ranking, _ in whole]
    asked = []
    for ranking, positives in whole:
        there = {document.doc_id for document in ranking.documents}
        asked.append(ranking.then(document for document in positives if document.doc_id not in there))
    return teacher(asked) if asked else []


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    stream = iter(items)
    while chunk := list(islice(stream, AT_ONCE)):
        yield chunk
