"""Short training lists of SciFact's train split, mined with BM25 and scored by a teacher: what two scripts train on."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from rerank import Dataset, Ranking, Reranker
from retrievers.bm25 import BM25
from training.examples import Example, read_arrow, write_arrow

TEACHER, TOKENS, DOCUMENTS, DEPTH = "ms-marco-MiniLM-L12-v2", 96, 4, 100
"""Who scores, how much of a query and a document it reads, documents in a list, BM25's best that they are of."""


def labelled(collection: Path, folder: Path, only: Collection[str] | None = None) -> list[Example]:
    """Mined lists with the teacher's scores, kept as Arrow.

    Args:
        collection: SciFact as a BEIR folder.
        folder: where they are kept; what lies there is read.
        only: ids of the queries; None: all of the train split.
    """
    if not folder.exists():
        train = Dataset.load(collection, "train")
        queries = [query for query in train.queries if only is None or query.query_id in only]
        lists = list(mined(train, BM25.of(train).retrieve(queries, DEPTH)))
        with Reranker(TEACHER, max_tokens=TOKENS, journal=folder.with_name("teacher.jsonl")) as teacher:
            ranked = teacher.rerank(lists)
        write_arrow((example(train, ranking) for ranking in ranked), folder)
    return [one for one in read_arrow(folder) if isinstance(one, Example)]


def mined(train: Dataset, retrieved: Sequence[Ranking]) -> Iterator[Ranking]:
    """A relevant document and drawn ones for each query, in an order that says nothing."""
    for ranking in retrieved:
        query, choice = ranking.query, random.Random(f"0 {ranking.query.query_id}")
        judged = train.qrels[query.query_id]
        relevant = sorted(doc_id for doc_id, grade in judged.items() if grade > 0)
        others = [one.document for one in ranking if judged.get(one.document.doc_id, 0) <= 0]
        if relevant and len(others) >= DOCUMENTS - 1:
            best = choice.choice(relevant)
            documents = [train.look_up([best])[best], *choice.sample(others, DOCUMENTS - 1)]
            yield Ranking.unscored(query, choice.sample(documents, DOCUMENTS))


def example(train: Dataset, ranking: Ranking) -> Example:
    """With its labels and the teacher's scores; in the order of ids, which says nothing."""
    candidates = sorted(ranking, key=lambda one: one.document.doc_id)
    judged = train.qrels[ranking.query.query_id]
    return Example(
        ranking.query.text,
        tuple(one.document.full_text for one in candidates),
        relevance=tuple(float(judged.get(one.document.doc_id, 0) > 0) for one in candidates),
        scores=tuple(float(one.score or 0.0) for one in candidates),
        query_id=ranking.query.query_id,
        doc_ids=tuple(one.document.doc_id for one in candidates),
    )
