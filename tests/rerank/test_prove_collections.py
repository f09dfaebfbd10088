"""The script that proves the development collections, on the quick ones of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prove_collections.py"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("prove_collections", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_noveleval_and_dl19_prove_themselves(script, shared, monkeypatch, capsys):
    names = ["noveleval-bm25", "noveleval-own", "dl19-runs"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *names, "--data", str(shared)])

    assert script.main() == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert "noveleval, its own 20: BM25, bm25s by itself  0.6978  expected 0.6978" in lines


def test_a_figure_that_is_off_is_told(script, shared, monkeypatch, capsys):
    monkeypatch.setattr(script, "RUNS", {"bm25": 0.6})
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "dl19-runs", "--data", str(shared)])

    assert script.main() == 1

    assert "0.5058  expected 0.6000  FURTHER OFF" in capsys.readouterr().out
