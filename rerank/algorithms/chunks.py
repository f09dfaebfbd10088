"""Passages of the best documents stand in for the query: BERT-QE."""

from __future__ import annotations

from math import exp

from rerank.algorithms.answers import graded
from rerank.errors import InputError
from rerank.questions import Algorithm, Grade, Plan
from rerank.types import Document, Query, Ranking

__all__ = ["bert_qe", "chunks_of"]


def _bert_qe(ranking: Ranking, *, depth: int = 10, chunk_words: int = 10, chunks: int = 10, alpha: float = 0.4) -> Plan:
    """Expand the query by the chunks of the best documents that answer it best (Zheng et al., 2020,
    https://arxiv.org/abs/2009.07258).

    Round 1 grades every document: n questions. Round 2 grades the chunks of the `depth` best as if they were documents:
    as many questions as they have distinct chunks. Round 3 asks, with each of the `chunks` best as the query, about
    every document: chunks · n questions. A document's score is

        alpha · Σ softmax(grades of chunks) · (its grade for that chunk) + (1 − alpha) · (its grade for the query).

    Args:
        depth: k_d, documents that are cut into chunks.
        chunk_words: m, words of a chunk; the next one begins half as many words later.
        chunks: k_c, how many stand in for the query.
        alpha: their share, from 0 (which asks about no chunk) to 1.

    Raises:
        InputError: when a number makes no sense.
    """
    _check(depth, chunk_words, chunks, alpha)
    query, documents = ranking.query, ranking.documents
    if len(documents) < 2:
        return Ranking.by_order(ranking, documents)
    first = graded((yield [Grade(query, document) for document in documents]))
    if alpha == 0:
        return Ranking.by_score(query, documents, first)
    best = sorted(range(len(documents)), key=lambda index: -first[index])[:depth]
    found = list(dict.fromkeys(chunk for index in best for chunk in chunks_of(documents[index], chunk_words)))
    if not found:
        return Ranking.by_score(query, documents, first)
    second = graded(
        (yield [Grade(query, Document(f"{query.query_id} chunk {index}", text)) for index, text in enumerate(found)])
    )
    chosen = sorted(range(len(found)), key=lambda index: -second[index])[:chunks]
    weights = _softmax([second[index] for index in chosen])
    asking = [Query(query.query_id, found[index], query.instruction) for index in chosen]
    third = graded((yield [Grade(chunk, document) for chunk in asking for document in documents]))
    sums = [0.0] * len(documents)
    for place, weight in enumerate(weights):
        for index in range(len(documents)):
            sums[index] += weight * third[place * len(documents) + index]
    return Ranking.by_score(
        query, documents, [alpha * feedback + (1 - alpha) * own for feedback, own in zip(sums, first, strict=True)]
    )


def chunks_of(document: Document, words: int) -> list[str]:
    """A document's overlapping chunks, in order; one alone where it is no longer than a chunk."""
    split = document.full_text.split()
    step = max(1, words // 2)
    last = max(1, len(split) - words + step)
    return [" ".join(split[start : start + words]) for start in range(0, last, step)] if split else []


def _softmax(grades: list[float]) -> list[float]:
    top = max(grades)
    shares = [exp(grade - top) for grade in grades]
    return [share / sum(shares) for share in shares]


def _check(depth: int, words: int, chunks: int, alpha: float) -> None:
    if min(depth, words, chunks) < 1 or not 0 <= alpha <= 1:
        raise InputError(
            f"depth={depth}, chunk_words={words}, chunks={chunks} and alpha={alpha}; choose numbers of at least 1, and "
            "an alpha from 0 to 1"
        )


def _exact(count: int, *, alpha: float = 0.4, **options: float) -> int:
    """Chunks are no documents of the judgments: a judge that is perfect for these may say anything of those."""
    return count if alpha == 0 else 0


bert_qe = Algorithm("bert-qe", _bert_qe, asks=frozenset({Grade}), exact=_exact)
