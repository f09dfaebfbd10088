"""The corpus graph on disk: its neighbours are those of a plain search, and it is built whole or goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import tiny_bert

import retrievers.graph
from rerank.algorithms.adaptive import Graph
from rerank.errors import FileError, InputError
from rerank.judges.fake import Oracle
from rerank.rerankers.reranker import Reranker
from rerank.types import Document, Query
from retrievers import ids
from retrievers.bm25 import BM25
from retrievers.dense import Dense
from retrievers.graph import CorpusGraph
from retrievers.hybrid import Hybrid
from retrievers.ids import Ids, write_ids

COLORS = ("red", "green", "blue", "grey")
DOCUMENTS = [
    *(Document(f"d{n}", " ".join(COLORS[(n * i) % 4] for i in range(n % 5 + 1)) + f" fish {n % 3}") for n in range(25)),
    Document("empty", ""),
    Document("twin", "a lonely word"),
    Document("other twin", "a lonely word"),
    Document("titled", "words", title="lonely"),
]


@pytest.fixture
def bm25(tmp_path: Path) -> BM25:
    return BM25.build(DOCUMENTS, tmp_path / "bm25", source="fish")


@pytest.fixture
def dense(tmp_path: Path) -> Dense:
    words = sorted({word for document in DOCUMENTS for word in document.full_text.split()})
    return Dense.build(DOCUMENTS, tmp_path / "dense", model=str(tiny_bert(tmp_path / "bert", words)))


def ids_of(documents: Any) -> list[str]:
    return [document.doc_id for document in documents]


def test_neighbours_are_what_a_search_for_the_text_finds_without_the_document_itself(
    bm25: BM25, tmp_path: Path
) -> None:
    graph = CorpusGraph.build(bm25, tmp_path / "graph", neighbours=4)

    for document in DOCUMENTS:
        found = []
        if document.full_text:
            [ranking] = bm25.retrieve([Query("q", document.full_text)], 5)
            found = [doc_id for doc_id in ids_of(ranking.documents) if doc_id != document.doc_id][:4]
        assert ids_of(graph.neighbours(document)) == found
    assert ids_of(graph.neighbours(DOCUMENTS[26])) == ["other twin", "titled"]


def test_dense_neighbours_are_those_of_the_highest_products(dense: Dense, tmp_path: Path) -> None:
    graph = CorpusGraph.build(dense, tmp_path / "graph", neighbours=3)

    vectors = dense.vectors.block(0, len(DOCUMENTS)).astype(np.float64)
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    for place, document in enumerate(DOCUMENTS):
        near = graph.neighbours(document)
        got = [products[place, DOCUMENTS.index(each)] for each in near]
        np.testing.assert_allclose(got, np.sort(products[place])[::-1][:3], atol=1e-5)
        assert document not in near


def test_an_approximate_index_gives_neighbours_too(dense: Dense, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    hnsw = Dense.build(DOCUMENTS, tmp_path / "hnsw", model=dense.options.model, search="hnsw")

    near = hnsw.near(5, 9, 2)

    assert [len(row) for row in near] == [2] * 4
    assert all(own not in row for own, row in enumerate(near, 5))


def test_it_says_what_it_was_built_from_and_needs_nothing_of_it_any_more(bm25: BM25, tmp_path: Path) -> None:
    built = CorpusGraph.build(bm25, tmp_path / "graph", neighbours=4)
    (tmp_path / "graph").rename(tmp_path / "moved")
    for path in (tmp_path / "bm25").iterdir():
        path.unlink()

    graph = CorpusGraph.open(tmp_path / "moved")

    assert isinstance(graph, Graph)
    assert (graph.manifest.source, graph.manifest.fingerprint) == ("fish", bm25.manifest.fingerprint)
    assert (graph.options.neighbours, graph.options.retriever, graph.options.index["k1"]) == (4, "bm25", 0.9)
    assert graph.manifest.notes["without_neighbours"] == 1
    assert len(graph) == len(built) == 29
    assert graph.neighbours(DOCUMENTS[0]) == [graph.documents[n] for n in graph._near[0]]


def test_a_reranker_finds_what_only_the_graph_leads_to(bm25: BM25, tmp_path: Path) -> None:
    CorpusGraph.build(bm25, tmp_path / "graph", neighbours=2)
    reranker = Reranker(
        "gar",
        judge=Oracle({"q": {"twin": 1, "other twin": 3}}),
        options={"graph": str(tmp_path / "graph"), "budget": 4},
    )

    ranking = reranker.rank(Query("q", "twin"), [DOCUMENTS[0], DOCUMENTS[26]])

    assert ranking[0].document == DOCUMENTS[27]
    assert reranker.ledger.total["questions"] == 4
    assert f"graph={tmp_path / 'graph'}" in reranker.ledger.notes["algorithm"]


class Breaking:
    """An index that breaks off after some searches."""

    def __init__(self, index: BM25, searches: int) -> None:
        self.manifest, self.documents, self.folder = index.manifest, index.documents, index.folder
        self.index, self.left, self.asked = index, searches, 0

    def retrieve(self, queries: Any, cutoff: int, **more: Any) -> Any:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.asked += len(queries)
        return self.index.retrieve(queries, cutoff, **more)


def test_an_interrupted_build_goes_on_where_it_was(bm25: BM25, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrievers.graph, "SHARD", 10)
    whole = CorpusGraph.build(bm25, tmp_path / "whole", neighbours=4)
    first, second = Breaking(bm25, 2), Breaking(bm25, 9)

    with pytest.raises(KeyboardInterrupt):
        CorpusGraph.build(first, tmp_path / "graph", neighbours=4)  # type: ignore[arg-type]
    assert not (tmp_path / "graph").exists()
    graph = CorpusGraph.build(second, tmp_path / "graph", neighbours=4)  # type: ignore[arg-type]

    assert (first.asked, second.asked) == (20, 8)
    np.testing.assert_array_equal(graph._near, whole._near)
    assert not list(tmp_path.glob("*/shards"))


def test_a_part_that_was_made_with_other_numbers_is_begun_anew(
    bm25: BM25, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrievers.graph, "SHARD", 10)
    with pytest.raises(KeyboardInterrupt):
        CorpusGraph.build(Breaking(bm25, 2), tmp_path / "graph", neighbours=4)  # type: ignore[arg-type]
    again = Breaking(bm25, 9)

    CorpusGraph.build(again, tmp_path / "graph", neighbours=3)  # type: ignore[arg-type]

    assert again.asked == 28


def test_ids_are_found_even_when_they_share_a_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ids(tmp_path, ["a", "b", "ü\ud800", "c"])
    assert [Ids(tmp_path).candidates(doc_id) for doc_id in ("c", "ü\ud800", "a", "z")] == [[3], [2], [0], []]

    monkeypatch.setattr(ids, "_hash", lambda doc_id: len(doc_id))
    write_ids(tmp_path, ["a", "bb", "c"])

    assert Ids(tmp_path).candidates("x") == [0, 2]


def test_documents_of_another_corpus_are_refused(bm25: BM25, tmp_path: Path) -> None:
    graph = CorpusGraph.build(bm25, tmp_path / "graph", neighbours=2)

    with pytest.raises(
        InputError, match=r"document 'unheard' is not in the graph .*graph; give the graph of its corpus"
    ):
        graph.neighbours(Document("unheard", "words"))
    with pytest.raises(InputError, match=r"document 'd0' is 'others' and in the graph .* 'red fish 0'; give the graph"):
        graph.neighbours(Document("d0", "others"))


def test_what_is_no_graph_is_told(bm25: BM25, dense: Dense, tmp_path: Path) -> None:
    graph = CorpusGraph.build(bm25, tmp_path / "graph", neighbours=2)
    (tmp_path / "torn").mkdir()
    for path in graph.folder.iterdir():
        (tmp_path / "torn" / path.name).write_bytes(path.read_bytes()[: 100 if path.name == "neighbours.npy" else None])

    for folder, said in (
        (tmp_path / "bm25", "is an index for 'bm25', not for 'graph'"),
        (tmp_path / "nowhere", "there is no index at"),
        (tmp_path / "torn", "neighbours.npy is missing or torn"),
    ):
        with pytest.raises(FileError, match=said):
            CorpusGraph.open(folder)
    with pytest.raises(FileError, match="exists already"):
        CorpusGraph.build(bm25, tmp_path / "graph")
    with pytest.raises(InputError, match=r"bm25\+dense has none of its own; give BM25, dense or SPLADE"):
        CorpusGraph.build(Hybrid([bm25, dense]), tmp_path / "hybrid")
    with pytest.raises(InputError, match="neighbours=0; a graph has at least 1"):
        CorpusGraph.build(bm25, tmp_path / "none", neighbours=0)
