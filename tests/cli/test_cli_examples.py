"""`rerank examples`: files in, counts and Arrow out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from training.examples import open_arrow, read_examples


def test_examples_are_counted_shown_and_written(
    command: Callable[..., Result], collection: Path, run_file: Path, tmp_path: Path
) -> None:
    where = ("--dataset", collection, "--qrels", collection / "qrels" / "test.tsv", "--cutoff", 5)

    shown = command("examples", run_file, *where, "--show", 1, "--output", tmp_path / "arrow")
    told = command("examples", tmp_path / "arrow", "--json", "--output", tmp_path / "again.jsonl")

    kept = len(open_arrow(tmp_path / "arrow"))
    first = next(iter(read_examples(tmp_path / "again.jsonl")))
    assert first.relevance is not None
    lines = shown.stdout.splitlines()
    assert lines[0] == f"{first.query}   [{first.where}]"
    assert lines[1] == f"  relevance {first.relevance[0]:g}: {first.documents[0]}"
    assert f"{kept} examples, {5 * kept} documents; {kept} with relevance" in lines
    assert f"candidates below the cutoff, left out: {6 * 25}" in lines
    counts = json.loads(told.stdout)
    assert (counts["kept"], counts["read"], counts["labels"]) == (kept, kept, {"relevance": kept})
    assert counts["output"] == str(tmp_path / "again.jsonl")


def test_what_is_wrong_is_one_line(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "triples.train.tsv").write_text("words\ta\n")
    triples = tmp_path / "triples.train.tsv"

    assert "2 columns where 3 are wanted" in refused("examples", triples, "--strict")
    assert "refused 1: malformed line" in refused("examples", triples)
    assert "exists already" in refused("examples", triples, "--output", tmp_path)
    assert "no format of examples is called 'nosuch'" in refused("examples", triples, "--format", "nosuch")
    assert "there is no folder" in refused("examples", tmp_path / "nosuch.tsv")
    assert "no labels are called 'ranks'" in refused("examples", triples, "--needs", "ranks")
