"""`rerank distil`: from a collection to a measured student, and on again from the step that was not finished."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from rerank import Reranker


@pytest.fixture
def strict(collection: Path, tmp_path: Path) -> Path:
    """The collection with documents of both words alone as relevant ones: what BM25 finds beside them is negative."""
    folder = tmp_path / "strict"
    shutil.copytree(collection, folder)
    qrels = folder / "qrels" / "test.tsv"
    head, *rows = qrels.read_text().splitlines()
    qrels.write_text("\n".join([head, *(row for row in rows if row.endswith("2"))]) + "\n")
    return folder


@pytest.fixture
def arguments(strict: Path, model: Path, tmp_path: Path) -> tuple[object, ...]:
    """Four queries, one step, teacher and student of random weights."""
    return (
        "distil", "cross-encoder-margin-mse", "--dataset", strict, "--split", "test", "--cutoff", 10,
        "--negatives", 2, "--queries", 4, "--teacher", model, "--student", model, "--max-tokens", 32, "--max-steps", 1,
        "--set", "schedule.lists=2", "--output", tmp_path / "distilled",
    )  # fmt: skip


def test_a_student_is_distilled_measured_and_goes_on_where_it_was(
    command: Callable[..., Result], arguments: tuple[object, ...], tmp_path: Path
) -> None:
    output = tmp_path / "distilled"

    first = command(*arguments, "--json")
    shutil.rmtree(output / "model")
    (output / "student.trec").unlink()
    again = command(*arguments, "--json")

    told = json.loads(first.stdout)
    assert json.loads(again.stdout) == told
    assert set(told["measures"]) == {"first-stage", "student"}
    assert all(0 < value["nDCG@10"] <= 1 for value in told["measures"].values())
    assert "$ rerank mine" in first.stderr
    assert "$ rerank mine" not in again.stderr
    assert "labelled is there" in again.stderr
    assert "$ rerank train" in again.stderr
    assert len(Reranker(output / "model").rank("fish bird", ["fish", "bird"])) == 2


def test_a_folder_that_was_begun_otherwise_is_refused(
    refused: Callable[..., str], arguments: tuple[object, ...], tmp_path: Path
) -> None:
    output = tmp_path / "distilled"
    output.mkdir()
    (output / "mine").write_text("something else")

    assert "was not made by rerank distil" in refused(*arguments)
    (output / "mine").unlink()
    (output / "distil.json").write_text(json.dumps({"recipe": "cross-encoder-labels"}))
    assert "was begun with --" in refused(*arguments)
    assert sorted(path.name for path in output.iterdir()) == ["distil.json"]
