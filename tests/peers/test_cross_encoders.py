"""Cross-encoders elsewhere: the same weights out of the same folder give the same scores and the same order."""

from __future__ import annotations

from pathlib import Path

import pytest
from peer_texts import QUERY, agree

from rerank.rerankers.reranker import Reranker
from rerank.types import Document


def test_sentence_transformers_on_minilm(minilm: Path, documents: list[Document]) -> None:
    pytest.importorskip("sentence_transformers")
    import torch
    from sentence_transformers import CrossEncoder

    peer = CrossEncoder(str(minilm), max_length=512, device="cpu", activation_fn=torch.nn.Identity())
    theirs = peer.predict([(QUERY.text, one.text) for one in documents], show_progress_bar=False)
    ranked = peer.rank(QUERY.text, [one.text for one in documents], show_progress_bar=False)
    ours = Reranker(minilm).rank(QUERY, documents)

    agree(ours, [float(score) for score in theirs])
    assert [one.document.doc_id for one in ours] == [str(one["corpus_id"]) for one in ranked]


def test_rerankers_on_minilm(minilm: Path, documents: list[Document]) -> None:
    peers = pytest.importorskip("rerankers")
    peer = peers.Reranker(str(minilm), model_type="cross-encoder", device="cpu", dtype="float32", verbose=0)
    found = peer.rank(QUERY.text, [one.text for one in documents])
    theirs = {result.document.doc_id: float(result.score) for result in found.results}
    ours = Reranker(minilm).rank(QUERY, documents)

    agree(ours, [theirs[index] for index in range(len(documents))])
