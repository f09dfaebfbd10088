"""A graph of the corpus from the command line, and rerankers that follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rerank.io import read_run


@pytest.fixture
def graph(command: Any, collection: Path, tmp_path: Path) -> Path:
    said = command("graph", "--dataset", collection, "--retriever", "bm25", "--neighbours", 3, "-o", tmp_path / "graph")
    assert said.exit_code == 0, said.output
    assert "neighbours of 40 documents of small" in said.stderr
    return tmp_path / "graph"


@pytest.fixture
def short(run_file: Path, tmp_path: Path) -> Path:
    """The first three documents of each query alone."""
    lines = [line for line in run_file.read_text().splitlines() if int(line.split()[3]) <= 3]
    (tmp_path / "short.trec").write_text("\n".join(lines) + "\n")
    return tmp_path / "short.trec"


def test_a_run_grows_by_what_the_graph_leads_to(
    command: Any, collection: Path, short: Path, model: Path, graph: Path, tmp_path: Path
) -> None:
    asked = ("--dataset", collection, "--run", short, "--model", model, "--no-journal")
    options = ("--method", "gar", "--set", f"graph={graph}", "--set", "budget=8")

    said = command("rerank", *asked, *options, "-o", tmp_path / "gar.trec", "--json")

    assert said.exit_code == 0, said.output
    assert {len(found) for found in read_run(tmp_path / "gar.trec").values()} == {8}
    answer = json.loads(said.stdout)
    assert answer["options"] == {"batch": 16, "budget": 8, "graph": str(graph)}
    assert answer["ledger"]["questions"] == 6 * 8


def test_a_pipelines_file_says_the_same(
    command: Any, collection: Path, short: Path, model: Path, graph: Path, tmp_path: Path
) -> None:
    tables = f"""
        [[stage]]
        retriever = "saved"
        path = "{short}"

        [[stage]]
        reranker = "{model}"
        algorithm = "ladr-adaptive"
        options = {{ graph = "{graph}", budget = 9, depth = 5 }}
    """
    (tmp_path / "adaptive.toml").write_text(tables)

    said = command("run", tmp_path / "adaptive.toml", "--dataset", collection, "-o", tmp_path / "ladr.trec")

    assert said.exit_code == 0, said.output
    assert {len(found) for found in read_run(tmp_path / "ladr.trec").values()} == {9}


def test_an_index_of_ones_own_is_walked(command: Any, collection: Path, tmp_path: Path) -> None:
    where = ("--dataset", collection, "--retriever", "bm25")
    command("index", *where, "--k1", 2, "-o", tmp_path / "index")

    said = command("graph", *where, "--index", tmp_path / "index", "-o", tmp_path / "graph", "--json")

    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["documents"] == 40
    manifest = json.loads((tmp_path / "graph" / "manifest.json").read_text())
    assert (manifest["options"]["neighbours"], manifest["options"]["index"]["k1"]) == (16, 2.0)


def test_bad_input_is_one_line(refused: Any, collection: Path, short: Path, model: Path, tmp_path: Path) -> None:
    asked = ("rerank", "--dataset", collection, "--run", short, "--model", model, "-o", tmp_path / "out.trec")
    where = ("graph", "--dataset", collection, "--retriever")

    assert "gar follows a graph of the corpus: give the option graph=" in refused(*asked, "--method", "gar")
    assert "there is no index at" in refused(*asked, "--method", "gar", "--set", "graph=nowhere")
    assert "a graph is built over an index, and short.trec has none of its own" in refused(
        *where, "saved", "--option", f"path={short}", "-o", tmp_path / "graph"
    )
    assert "exists already" in refused(*where, "bm25", "-o", collection)
