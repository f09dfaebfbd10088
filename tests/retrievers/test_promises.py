"""What every registered retriever promises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_bert

from rerank import registry
from rerank.datasets import Dataset
from rerank.errors import InputError
from rerank.io import write_run
from rerank.pipeline import Retriever, Stage
from rerank.questions import Answer, Bill, Question, Write, Written
from rerank.types import Document, Query
from retrievers import doc2query as doc2query_module
from retrievers.bm25 import BM25
from retrievers.dense import Dense
from retrievers.doc2query import Doc2Query
from retrievers.expansion import Expansion
from retrievers.hybrid import Hybrid
from retrievers.late_interaction import LateInteraction
from retrievers.lucene import Lucene
from retrievers.saved import SavedRun
from retrievers.splade import Splade

COLORS = ("red", "green", "blue", "grey")
DOCUMENTS = [
    Document(f"d{n}", " ".join(COLORS[i % 4] for i in range(n % 7 + 1)) + f" fish number{n}") for n in range(30)
]
QUERIES = [Query("many", "fish"), Query("some", "blue fish"), Query("one", "number17"), Query("none", "submarines")]


def bm25(folder: Path) -> BM25:
    index = folder / "index"
    return BM25.open(index) if index.exists() else BM25.build(DOCUMENTS, index)


def saved(folder: Path) -> SavedRun:
    if not (folder / "bm25.trec").exists():
        lines = (json.dumps({"_id": document.doc_id, "text": document.text}) for document in DOCUMENTS)
        (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "queries.jsonl").write_text('{"_id": "many", "text": "fish"}\n')
        rankings = bm25(folder).retrieve(QUERIES, len(DOCUMENTS))
        write_run(folder / "bm25.trec", rankings, tag="bm25")
    return SavedRun(folder / "bm25.trec", Dataset.load(folder))


def dense(folder: Path) -> Dense:
    index = folder / "dense"
    if index.exists():
        return Dense.open(index)
    words = {word for text in [*DOCUMENTS, *QUERIES] for word in text.text.split()}
    model = tiny_bert(folder / "bert", sorted(words))
    return Dense.build(DOCUMENTS, index, model=str(model))


def splade(folder: Path) -> Splade:
    index = folder / "splade"
    if index.exists():
        return Splade.open(index)
    words = {word for text in [*DOCUMENTS, *QUERIES] for word in text.text.split()}
    model = tiny_bert(folder / "masked", sorted(words), kind="BertForMaskedLM")
    return Splade.build(DOCUMENTS, index, model=str(model))


def late_interaction(folder: Path) -> LateInteraction:
    index = folder / "late"
    if index.exists():
        return LateInteraction.open(index)
    words = {word for text in [*DOCUMENTS, *QUERIES] for word in text.text.split()}
    model = tiny_bert(folder / "tokens", sorted(words))
    return LateInteraction.build(DOCUMENTS, index, model=str(model))


def lucene(folder: Path) -> Lucene:
    if find_spec("pyserini") is None:
        pytest.skip("needs the 'lucene' extra: pip install 'rerank-toolkit[lucene]'")
    index = folder / "lucene"
    return Lucene.open(index) if index.exists() else Lucene.build(DOCUMENTS, index)


@pytest.fixture(autouse=True)
def _no_queries_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model writes would be found by; `test_doc2query.py` has a real one write."""
    monkeypatch.setattr(doc2query_module, "QueryWriter", lambda drawing, device: NoQueries())
    monkeypatch.setattr(doc2query_module, "key_of", lambda drawing: "none")


class NoQueries:
    """Has nothing to say about any document."""

    def write(self, texts: Sequence[str]) -> list[list[str]]:
        return [[""] for _ in texts]


def doc2query(folder: Path) -> Doc2Query:
    index = folder / "doc2query"
    return Doc2Query.open(index) if index.exists() else Doc2Query.build(DOCUMENTS, index, model="none")


class Silent:
    """Writes nothing: a query stays what it is."""

    key, answers, reads_ids = "silent", frozenset({Write}), False

    def answer(self, questions: Sequence[Question], ledger: Bill) -> Iterator[tuple[int, Answer]]:
        return ((index, Written("", ("nothing was written",))) for index, _ in enumerate(questions))


def expansion(folder: Path) -> Expansion:
    return Expansion(bm25(folder), Silent())


def hybrid(folder: Path) -> Hybrid:
    return Hybrid([bm25(folder), saved(folder)])


MAKERS: dict[str, Callable[[Path], Retriever]] = {
    "bm25": bm25,
    "dense": dense,
    "doc2query": doc2query,
    "expansion": expansion,
    "hybrid": hybrid,
    "late-interaction": late_interaction,
    "lucene": lucene,
    "saved": saved,
    "splade": splade,
}

BY_MEANING = ("dense", "late-interaction", "splade")
"""These find every document for every query, near or far: a random SPLADE weighs half the vocabulary in every text."""


@pytest.fixture(params=sorted(MAKERS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Retriever]:
    """Makes the same retriever over `DOCUMENTS`; the second time from what the first left on disk."""
    return lambda: MAKERS[request.param](tmp_path)


def test_every_registered_retriever_is_tested_here():
    assert sorted(MAKERS) == registry.names("retriever")


def test_it_can_stand_in_a_pipeline(make):
    retriever = make()

    assert isinstance(retriever, Retriever)
    assert isinstance(retriever, Stage)
    assert len((retriever % 3).run(QUERIES)[0]) == 3


def test_rankings_come_in_the_order_of_the_queries_and_best_first(make):
    rankings = make().retrieve(QUERIES, 30)

    assert [ranking.query for ranking in rankings] == QUERIES
    for ranking in rankings:
        scores = [candidate.score for candidate in ranking]
        assert scores == sorted(scores, reverse=True)
        assert all(type(score) is float for score in scores)


def test_documents_come_whole(make):
    known = {document.doc_id: document for document in DOCUMENTS}

    found = make().retrieve(QUERIES, 30)[0].documents

    assert len(found) == 30
    assert all(document == known[document.doc_id] for document in found)


@pytest.mark.parametrize("cutoff", [1, 5, 29, 30, 1000])
def test_the_cutoff_is_kept_and_takes_the_best(make, cutoff):
    retriever = make()
    everything = retriever.retrieve(QUERIES, 30)

    rankings = retriever.retrieve(QUERIES, cutoff)

    assert rankings == [ranking[:cutoff] for ranking in everything]


def test_a_cutoff_may_be_numpys(make):
    retriever = make()

    assert retriever.retrieve(QUERIES, np.int64(3)) == retriever.retrieve(QUERIES, 3)


def test_a_str_is_no_collection_of_ids_to_exclude(make):
    with pytest.raises(InputError, match=r"query 'many' excludes '12'; give a collection of ids, such as \['12'\]"):
        make().retrieve(QUERIES, 5, exclude={"many": "12"})


@pytest.mark.parametrize("cutoff", [0, -1, 2.5, True])
def test_a_cutoff_below_one_is_refused(make, cutoff):
    with pytest.raises(InputError, match=str(cutoff)):
        make().retrieve(QUERIES, cutoff)


def test_excluded_documents_make_room_for_the_next(make):
    retriever = make()
    best = [document.doc_id for document in retriever.retrieve(QUERIES[:1], 8)[0].documents]

    many, some, *_ = retriever.retrieve(QUERIES, 5, exclude={"many": [best[0], best[2], "unheard of"]})

    assert [document.doc_id for document in many.documents] == [best[1], *best[3:7]]
    assert some == retriever.retrieve(QUERIES, 5)[1]


def test_a_query_that_matches_nothing_has_an_empty_ranking(make, request):
    every = request.node.callspec.params["make"] in BY_MEANING

    assert [len(ranking) for ranking in make().retrieve(QUERIES, 30)] == ([30] * 4 if every else [30, 30, 1, 0])


def test_no_queries_have_no_rankings(make):
    assert make().retrieve([], 10) == []


def test_many_queries_at_once_are_as_one_by_one(make):
    retriever = make()

    one_by_one = [retriever.retrieve([query], 10)[0] for query in QUERIES]

    assert retriever.retrieve(QUERIES, 10) == one_by_one


def test_the_order_of_the_queries_changes_nothing(make):
    retriever = make()

    backwards = retriever.retrieve(QUERIES[::-1], 10)

    assert backwards[::-1] == retriever.retrieve(QUERIES, 10)


def test_what_lies_on_disk_gives_the_same(make):
    first = make().retrieve(QUERIES, 10)

    assert make().retrieve(QUERIES, 10) == first
