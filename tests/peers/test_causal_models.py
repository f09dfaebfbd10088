"""Qwen3-style rerankers in sentence-transformers: a chat template, and the logits of yes and no at its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from judge_models import tiny_lm
from peer_texts import QUERY, agree

from rerank import prompts
from rerank.judges.target_token import TargetToken
from rerank.prompts import Turn
from rerank.rerankers.reranker import Reranker
from rerank.types import Document

KNOWN = prompts.find("qwen3-reranker")
SAID = KNOWN.turns[0].text.removesuffix("<think>\n\n</think>\n\n")  # behind which this tokenizer has no single "yes"
PROMPT = replace(KNOWN, turns=(Turn("plain", SAID),))


def template() -> str:
    """Our prompt's wording in the shape that sentence-transformers fills: a message of each role."""
    said = SAID
    for field, filled in (
        ("{instruction}", PROMPT.instruction),
        ("{query}", "{{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}"),
        ("{document}", "{{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}"),
    ):
        said = said.replace(field, filled)
    return said.replace("\n", "{{ '\\n' }}")


def test_logit_score_on_a_real_causal_model(smollm: Path, documents: list[Document]) -> None:
    pytest.importorskip("sentence_transformers", minversion="6.0")
    import torch
    from sentence_transformers import CrossEncoder

    peer = CrossEncoder(str(smollm), device="cpu", activation_fn=torch.nn.LogSigmoid(), max_length=512)
    peer[0].processor.chat_template = template()
    documents = documents[:10]  # a real model, one by one
    pairs = [(QUERY.text, one.text) for one in documents]
    theirs = [float(score) for score in peer.predict(pairs, batch_size=4, show_progress_bar=False)]
    judge = TargetToken(smollm, prompt=PROMPT)
    ours = Reranker(judge=judge).rank(QUERY, documents)

    assert judge.targets == {"yes": peer[1].true_token_id, "no": peer[1].false_token_id}
    agree(ours, theirs)


def test_a_folder_that_it_saved_is_named_and_nothing_else(
    smollm: Path, documents: list[Document], tmp_path: Path
) -> None:
    pytest.importorskip("sentence_transformers", minversion="6.0")
    import torch
    from sentence_transformers import CrossEncoder

    folder = tiny_lm(tmp_path / "tiny", smollm)
    peer = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity(), max_length=512)
    peer[0].processor.chat_template = template()
    peer.save_pretrained(str(tmp_path / "saved"))
    theirs = peer.predict([(QUERY.text, one.text) for one in documents], batch_size=4, show_progress_bar=False)

    agree(Reranker(tmp_path / "saved").rank(QUERY, documents), [float(score) for score in theirs])
