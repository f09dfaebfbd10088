"""Causal rerankers in sentence-transformers' modules: named by their folder alone, and asked by their own template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from judge_models import DOCUMENTS, QUERY, tiny_lm

from rerank import Reranker
from rerank.errors import CheckpointError
from rerank.judges.logit_score import prompt_of
from rerank.types import Query

FLAT = (
    "{% for m in messages if m.role == 'system' %}<|im_start|>system\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>user\n{Q}: {{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}\n"
    "D: {{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}<|im_end|>\n"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LISTED = FLAT.replace(
    "| map(attribute='content') | first", "| map(attribute='content') | first | map(attribute='text') | first"
)
LISTED = LISTED.replace("{{ m.content }}", "{{ m.content[0].text }}")
TOLD = "<|im_start|>user\n{{Q}}: {query}\nD: {document}<|im_end|>\n<|im_start|>assistant\n"


def folder_of(
    folder: Path, smollm: Path, *, ids: dict[str, Any], instruction: str = "", listed: bool = False, template: str = ""
) -> Path:
    """A tiny causal model in the layout that `CrossEncoder.save_pretrained` writes, as read off a folder of its."""
    tiny_lm(folder, smollm)
    (folder / "chat_template.jinja").write_text(template or (LISTED if listed else FLAT))
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_LogitScore",
            "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
        },
    ]
    prompts = {"prompts": {"q": instruction}, "default_prompt_name": "q"} if instruction else {"prompts": {}}
    config = {
        "transformer_task": "text-generation",
        "modality_config": {"message": {"format": "structured" if listed else "flat"}},
        "processing_kwargs": {"chat_template": {"add_generation_prompt": True, "restore_suffix": True}},
    }
    (folder / "1_LogitScore").mkdir()
    written = {"modules": modules, "config_sentence_transformers": prompts, "sentence_bert_config": config}
    for name, values in {**written, "1_LogitScore/config": ids}.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def yes_no(smollm: Path) -> dict[str, int]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm)
    ids = {word: tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("yes", "no")}
    return {"true_token_id": ids["yes"][0], "false_token_id": ids["no"][0]}


@torch.inference_mode()
def plain(folder: Path, told: str) -> list[list[float]]:
    """The logits of all tokens behind each document's prompt, by transformers' own forward."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [told.format(query=QUERY.text, document=document.full_text) for document in DOCUMENTS]
    ids = [tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"] for text in texts]
    return [model(each).logits[0, -1].tolist() for each in ids]


def scores(folder: Path, query: Query = QUERY) -> list[float | None]:
    with Reranker(folder) as reranker:
        found = {one.document.doc_id: one.score for one in reranker.rank(query, DOCUMENTS)}
    return [found[document.doc_id] for document in DOCUMENTS]


@pytest.mark.parametrize("listed", [False, True], ids=["flat", "structured"])
def test_a_folder_is_asked_by_its_own_template(smollm: Path, tmp_path: Path, yes_no: Any, listed: bool) -> None:
    folder = folder_of(tmp_path, smollm, ids=yes_no, listed=listed)

    found = scores(folder)

    yes, no = yes_no.values()
    assert found == pytest.approx([row[yes] - row[no] for row in plain(folder, TOLD)], abs=1e-4)


def test_its_default_prompt_is_the_systems_and_a_querys_instruction_takes_its_place(
    smollm: Path, tmp_path: Path, yes_no: Any
) -> None:
    folder = folder_of(tmp_path, smollm, ids={**yes_no, "false_token_id": None}, instruction="Answer {it}.")
    usual, other = (f"<|im_start|>system\n{said}<|im_end|>\n{TOLD}" for said in ("Answer {{it}}.", "Be strict."))

    found, instructed = scores(folder), scores(folder, Query("q", QUERY.text, "Be strict."))

    yes = yes_no["true_token_id"]
    assert found == pytest.approx([row[yes] for row in plain(folder, usual)], abs=1e-4)
    assert instructed == pytest.approx([row[yes] for row in plain(folder, other)], abs=1e-4)


def test_another_prompt_or_another_layout_decides_itself(smollm: Path, tmp_path: Path, yes_no: Any) -> None:
    folder = folder_of(tmp_path / "modules", smollm, ids=yes_no)
    other = tiny_lm(tmp_path / "other", smollm)

    with Reranker(folder, prompt="prism-reranker") as reranker:
        assert reranker.judge.choices["prompt"] == "prism-reranker"
    assert prompt_of(other) is None
    with pytest.raises(CheckpointError, match="is a causal language model, which is asked by a prompt"):
        Reranker(other)


@pytest.mark.parametrize(
    ("ids", "template", "complaint"),
    [
        ({}, "", "its config has no true_token_id"),
        ({"true_token_id": 1, "false_token_id": 1}, "", "two of them are the same|must be one token"),
        (None, "{{ messages[0].content }}", "its chat template does not show the document; give prompt= one that does"),
        (None, "{{ raise_exception('no') }}", "its chat template refuses a query and a document: no"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(
    smollm: Path, tmp_path: Path, yes_no: Any, ids: Any, template: str, complaint: str
) -> None:
    folder = folder_of(tmp_path, smollm, ids=yes_no if ids is None else ids, template=template)

    with pytest.raises(CheckpointError, match=complaint):
        Reranker(folder)
