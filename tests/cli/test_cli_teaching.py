"""`rerank mine`, `label` and `queries`: from a collection to labelled examples, with counts and journals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from rerank.io import read_qrels, read_run
from training.examples import Example, read_examples, write_jsonl


def read(path: Path) -> list[Example]:
    return list(read_examples(path))


@pytest.fixture
def mined(command: Callable[..., Result], collection: Path, run_file: Path, tmp_path: Path) -> Path:
    """Two negatives for each positive of grade 2, from the run."""
    output = tmp_path / "mined.jsonl"
    command("mine", "--dataset", collection, "--run", run_file, "--relevant-from", 2, "--negatives", 2, "-o", output)
    return output


def test_mining_takes_the_best_irrelevant_documents_of_a_run(mined: Path, collection: Path, run_file: Path) -> None:
    qrels, run = read_qrels(collection / "qrels" / "test.tsv"), read_run(run_file)

    examples = read(mined)

    assert {(one.query_id, (one.doc_ids or ())[0]) for one in examples} == {
        (query_id, doc_id) for query_id, judged in qrels.items() for doc_id, grade in judged.items() if grade == 2
    }
    for one in examples:
        negatives = [doc_id for doc_id in run[one.query_id] if qrels[one.query_id][doc_id] == 0]
        assert list((one.doc_ids or ())[1:]) == negatives[:2]  # no two documents have one text here
        assert one.relevance == (1, 0, 0)


def test_mining_with_a_retriever_tells_machines_what_it_did(
    command: Callable[..., Result], collection: Path, tmp_path: Path
) -> None:
    arguments = ("--dataset", collection, "--retriever", "bm25", "--randoms", 2, "--seed", 3, "--first-queries", 2)

    first, again = (
        command("mine", *arguments, "--output", tmp_path / name, "--json") for name in ("a.jsonl", "b.jsonl")
    )

    told = json.loads(first.stdout)
    assert (told["queries"], told["seed"], told["kept"]) == (2, 3, len(read(tmp_path / "a.jsonl")))
    # whatever BM25 finds here holds a word of the query and is relevant: the negatives are random ones
    assert told["notes"] == {"negatives fewer than asked for": 8 * told["kept"]}
    assert {len(one) for one in read(tmp_path / "a.jsonl")} == {3}
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    assert json.loads(again.stdout)["kept"] == told["kept"]


def test_a_teacher_filters_and_labels_while_mining(
    command: Callable[..., Result], collection: Path, run_file: Path, model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "mined.jsonl"
    arguments = ("--dataset", collection, "--run", run_file, "--model", model, "--margin", 0, "--output", output)

    told = json.loads(command("mine", *arguments, "--negatives", 3, "--json").stdout)

    examples = read(output)
    assert told["ledger"]["questions"] > 0
    assert all(one.scores is not None and max(one.scores[1:]) <= one.scores[0] for one in examples)
    assert (tmp_path / "mined.jsonl.journal").exists()


@pytest.mark.parametrize(("labels", "more"), [("scores", ()), ("order", ("--shuffle", 1))])
def test_labels_of_a_cross_encoder(
    command: Callable[..., Result], mined: Path, model: Path, tmp_path: Path, labels: str, more: tuple[Any, ...]
) -> None:
    output = tmp_path / "labelled.jsonl"
    arguments = ("label", mined, "--model", model, "--labels", labels, *more, "--output", output)
    told = json.loads(command(*arguments, "--json").stdout)
    first = output.read_text()
    again = json.loads(command(*arguments, "--json").stdout)

    examples = read(output)
    assert [one.query_id for one in examples] == [one.query_id for one in read(mined)]
    assert all(labels in one.labels and "relevance" in one.labels for one in examples)
    assert told["labels"][labels] == len(examples)
    assert output.read_text() == first
    assert again["ledger"].get("calls", 0) == 0  # answered from the journal
    if labels == "order":
        assert [sorted(one.order or ()) for one in examples] == [[0, 1, 2]] * len(examples)


def test_queries_that_others_wrote_are_mined_for(
    command: Callable[..., Result], collection: Path, tmp_path: Path
) -> None:
    texts = {one["_id"]: one["text"] for one in map(json.loads, (collection / "corpus.jsonl").read_text().splitlines())}
    written = [
        Example(texts[doc_id], (texts[doc_id],), (1,), query_id=doc_id, doc_ids=(doc_id,)) for doc_id in ("d1", "d2")
    ]
    write_jsonl(written, tmp_path / "queries.jsonl")

    result = command(
        "mine", "--dataset", collection, "--examples", tmp_path / "queries.jsonl", "--retriever", "bm25",
        "--consistent-within", 5, "--negatives", 1, "--output", tmp_path / "mined.jsonl",
    )  # fmt: skip

    assert [(one.query_id, (one.doc_ids or ())[0]) for one in read(tmp_path / "mined.jsonl")] == [
        ("d1", "d1"),
        ("d2", "d2"),
    ]
    assert "2 examples, 4 documents; 2 with relevance" in result.stdout


def test_a_model_writes_queries(command: Callable[..., Result], collection: Path, smollm: Path, tmp_path: Path) -> None:
    arguments = ("--dataset", collection, "--model", smollm, "--documents", 2, "--new-tokens", 6, "--least-words", 1)

    result = command("queries", *arguments, "--copied", "--output", tmp_path / "queries.jsonl", "--json")

    told = json.loads(result.stdout)
    assert (told["kept"], told["prompt"]) == (len(read(tmp_path / "queries.jsonl")), "inpars")
    assert told["read"] == told["ledger"]["questions"] == 2


def test_what_does_not_go_together_is_one_line(
    refused: Callable[..., str], collection: Path, run_file: Path, mined: Path, model: Path, tmp_path: Path
) -> None:
    out = ("--output", tmp_path / "out.jsonl")
    mine = ("mine", "--dataset", collection, *out)

    assert "give either --run or --retriever" in refused(*mine)
    assert "--max-tokens is of no use without --model" in refused(*mine, "--run", run_file, "--max-tokens", 9)
    assert "ranks 5 to 4" in refused(*mine, "--run", run_file, "--first-rank", 5, "--last-rank", 4)
    assert "are for --labels pairs" in refused("label", mined, "--model", model, *out, "--pairs", "all")
    assert "compares no two documents" in refused("label", mined, "--model", model, *out, "--labels", "pairs")
    assert "does not answer by two words" in refused("label", mined, "--model", model, *out, "--labels", "logits")
    assert "for an order" in refused("label", mined, "--model", model, *out, "--passes", 2)
    queries = ("queries", "--dataset", collection, "--model", model, *out)
    assert "--keep and --scorer go together" in refused(*queries, "--keep", 3)
    assert "needs --temperature" in refused(*queries, "--each", 2)
    assert not (tmp_path / "out.jsonl").exists()
