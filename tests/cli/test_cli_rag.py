"""`rerank rag`: a real language model answers from the files of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rerank.cost import Ledger
from rerank.judges.writer import Writer
from rerank.questions import Write
from rerank.types import Document, Query

QUESTION = "What is the capital of Ruritania?"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Three files, one of them in a folder below."""
    folder = tmp_path / "notes"
    (folder / "more").mkdir(parents=True)
    (folder / "capitals.txt").write_text("The capital of Ruritania is Strelsau. It lies on a river.")
    (folder / "more" / "cheese.md").write_text("Cheese is made of milk. It keeps for months.")
    (folder / "rivers.rst").write_text("Rivers of Ruritania are wide. They freeze in winter.")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture
def stages(tmp_path: Path, model: Path) -> Path:
    """BM25 and a tiny cross-encoder."""
    path = tmp_path / "stages.toml"
    path.write_text(f'[[stage]]\nretriever = "bm25"\ncutoff = 5\n\n[[stage]]\nreranker = "{model}"\n')
    return path


def test_a_question_is_answered_from_the_passages_that_are_shown(command, notes, stages, smollm):
    options = ["--documents", notes, "--pipeline", stages, "--model", smollm, "--new-tokens", 16]

    found = json.loads(command("rag", QUESTION, *options, "--json").stdout)
    shown = command("rag", QUESTION, *options)

    assert {passage["doc_id"] for passage in found["passages"]} == {"capitals.txt#1", "rivers.rst#1"}
    assert [passage["number"] for passage in found["passages"]] == [1, 2]
    passages = tuple(Document(each["doc_id"], each["text"]) for each in found["passages"])
    writer = Writer(smollm, prompt="answer-from-passages", new_tokens=16)
    [(_, expected)] = writer.answer([Write(Query("q", QUESTION), passages)], Ledger())
    assert found["answer"] == expected.text != ""
    assert found["ledger"]["tokens_generated"] <= 16
    assert shown.stdout.rstrip().endswith(found["answer"])
    assert "[1] " in shown.stdout
    assert "2 passages" in shown.stderr


def test_the_budget_and_the_order_decide_what_is_shown(command, notes, stages, smollm):
    options = ["--documents", notes, "--pipeline", stages, "--model", smollm, "--new-tokens", 1, "--json"]
    both = json.loads(command("rag", QUESTION, *options).stdout)["passages"]
    turned = json.loads(command("rag", QUESTION, *options, "--order", "best-last").stdout)["passages"]

    small = json.loads(command("rag", QUESTION, *options, "--budget", 24).stdout)

    assert [each["doc_id"] for each in turned] == [each["doc_id"] for each in both[::-1]]
    assert [each["doc_id"] for each in small["passages"]] == [both[0]["doc_id"]]
    assert (small["over_budget"], small["tokens"] <= 24) == (1, True)


def test_what_is_wrong_is_said_in_one_line(refused, command, notes, stages, smollm, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin" / "a.txt").write_bytes("Stra\xdfe".encode("latin-1"))
    options = ["--pipeline", stages, "--model", smollm]

    assert "name one of --documents FOLDER and --dataset NAME" in refused("rag", QUESTION)
    assert "there is no folder" in refused("rag", QUESTION, "--documents", tmp_path / "none", *options)
    assert "holds no text file" in refused("rag", QUESTION, "--documents", tmp_path / "empty", *options)
    assert "cannot be read as text" in refused("rag", QUESTION, "--documents", tmp_path / "latin", *options)
    assert "no document holds its words" in refused("rag", "xylophone", "--documents", notes, *options)
    assert "allow more" in refused("rag", QUESTION, "--documents", notes, *options, "--budget", 3)
    assert "did you mean" in refused("rag", QUESTION, "--documents", notes, *options, "--order", "best-frist")
