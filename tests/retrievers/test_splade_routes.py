"""SPLADE models that read queries and documents apart, as sentence-transformers' Router saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_bert

from rerank.errors import CheckpointError, FileError
from rerank.types import Document, Query
from retrievers.splade import Splade

pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = ("red", "green", "blue", "grey", "fish", "bird", "stone", "river")
DOCUMENTS = [Document(f"d{n}", " ".join(WORDS[(n * i) % 8] for i in range(n % 5 + 1))) for n in range(20)]
QUERIES = [Query("one", "blue fish fish"), Query("two", "a river"), Query("three", "grey stone")]


def routed(folder: Path, query: str) -> Path:
    """A SparseEncoder whose documents go through a masked model, and whose queries are read by `query`."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules.router import Router
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling, Transformer

    def masked(name: str, seed: int) -> list[Any]:
        place = tiny_bert(folder / name, WORDS, kind="BertForMaskedLM", seed=seed)
        return [Transformer(str(place), transformer_task="fill-mask"), SpladePooling("max")]

    documents = masked("documents", 0)
    if query == "static":
        weights = torch.linspace(-1.0, 3.0, len(WORDS) + 5)
        queries: list[Any] = [SparseStaticEmbedding(tokenizer=documents[0].tokenizer, weight=weights)]
    else:
        queries = masked("queries", 1)
    router = Router.for_query_document(query_modules=queries, document_modules=documents)
    SparseEncoder(modules=[router]).save_pretrained(str(folder / "saved"))
    return folder / "saved"


def by_sentence_transformers(folder: Path) -> Any:
    """[queries, documents] of its own encoding."""
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(folder), device="cpu")
    queries = model.encode_query([query.text for query in QUERIES]).to_dense()
    documents = model.encode_document([document.full_text for document in DOCUMENTS]).to_dense()
    return (queries @ documents.T).numpy()


@pytest.mark.parametrize("query", ["static", "model"])
def test_each_side_is_read_as_its_route_says(tmp_path: Path, query: str) -> None:
    folder = routed(tmp_path, query)
    expected = by_sentence_transformers(folder)

    index = Splade.build(DOCUMENTS, tmp_path / "index", model=str(folder))
    rankings = index.retrieve(QUERIES, 20)

    scores = np.zeros_like(expected)
    for row, ranking in zip(scores, rankings, strict=True):
        for candidate in ranking:
            row[int(candidate.document.doc_id[1:])] = candidate.score
    assert expected.max() > 1
    np.testing.assert_allclose(scores, np.maximum(expected, 0), atol=1e-3)
    assert index.looked_up == (query == "static")


def test_static_weights_need_no_model_and_stand_for_rarity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Splade.build(DOCUMENTS, tmp_path / "index", model=str(routed(tmp_path, "static")))

    monkeypatch.setattr("retrievers.term_encoding.load", None)
    opened = {queries: Splade.open(index.folder, queries=queries) for queries in ("model", "idf", "binary")}

    assert opened["model"].weighed(["blue red"]) == opened["idf"].weighed(["blue red"])
    weights = torch.linspace(-1.0, 3.0, len(WORDS) + 5)
    found = dict(opened["model"].weighed(["blue red"])[0])
    assert found == pytest.approx({5: float(weights[5]), 7: float(weights[7])})
    assert opened["binary"].weighed(["blue red"]) == [[(5, 1.0), (7, 1.0)]]


def test_other_weights_of_queries_are_noticed(tmp_path: Path) -> None:
    folder = routed(tmp_path, "static")
    index = Splade.build(DOCUMENTS, tmp_path / "index", model=str(folder))
    place = folder / "query_0_SparseStaticEmbedding" / "model.safetensors"
    save_file({"weight": load_file(place)["weight"] * 2}, place)

    with pytest.raises(FileError, match="other weights, or another version; build the index again"):
        Splade.open(index.folder).retrieve(QUERIES, 3)
    place.write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="has no weights of tokens"):
        Splade.open(index.folder).retrieve(QUERIES, 3)
