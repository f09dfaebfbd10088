"""Examples that cannot be trained on, of every main format: one line with file, line and values, before any model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.examples.arrow import features

TRIPLE = "what flies\ta bird\ta stone"
RECORD = {"query": "what flies", "documents": ["a bird", "a stone"], "relevance": [1, 0], "scores": [2.5, -1]}
MARGIN = "2.5\t-1.0\t1\t10\t11"
PLACES = ("--collection", "collection.tsv", "--queries", "queries.train.tsv")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a collection, whose query 5 and document 20 are empty, and 21 repeats 10."""
    monkeypatch.chdir(tmp_path)
    _lines("collection.tsv", *(f"{number}\tpassage {number}" for number in range(10, 20)), "20\t ", "21\tpassage 10")
    _lines("queries.train.tsv", "1\twhat is 1", "2\twhat is 2", "5\t ")
    _lines("qrels.train.tsv", "1\t0\t10\t1", "2\t0\t10\t1", "5\t0\t10\t1", "77\t0\t10\t1")
    return tmp_path


def _lines(name: str, *lines: str) -> str:
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return name


def _third(name: str, good: str, bad: str) -> str:
    """A file whose third line is bad."""
    return _lines(name, good, good, bad, good)


def _long(count: int) -> dict[str, Any]:
    documents = [f"passage {number}" for number in range(count)]
    return {"query": "q", "documents": documents, "relevance": [1.0] + [0.0] * (count - 1), "scores": [1.0] * count}


def _train(recipe: str, examples: str, *more: str) -> list[str]:
    """There is no such model: what is said is said before one is looked for."""
    return ["train", recipe, "--examples", examples, "--model", "no-such-model", "--output", "student", *more]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (" \ta bird\ta stone", "empty query"),
        ("what flies\ta bird\ta bird", "positive among the negatives: 'a bird' is relevant and irrelevant for query"),
        ("what flies\t\ta stone", "empty document: document 0 of query 'what flies' has no text"),
        ("what flies\ta bird", "malformed line: 2 columns where 3 are wanted: 'what flies\\ta bird'"),
    ],
)
def test_triples_of_texts(refused: Callable[..., str], bad: str, said: str) -> None:
    name = _third("triples.train.small.tsv", TRIPLE, bad)

    assert refused(*_train("monobert", name)).startswith(f"rerank: {name}:3: {said}")


def test_triples_have_no_scores(refused: Callable[..., str]) -> None:
    name = _lines("triples.train.small.tsv", TRIPLE, TRIPLE)

    line = refused(*_train("cross-encoder-margin-mse", name))

    said = "labels of the wrong kind: loss 'margin-mse' needs scores; this example has relevance (2 of 2 examples are"
    assert line.startswith(f"rerank: {name}:1: {said}")


FIELDS = [
    ("cross-encoder-margin-mse", {"query": " "}, "empty query"),
    (
        "cross-encoder-margin-mse",
        {"documents": ["a bird", "a bird"]},
        "positive among the negatives: 'a bird' is relevant and irrelevant for query 'what flies'",
    ),
    ("cross-encoder-margin-mse", {"scores": [1.0, float("nan")]}, "teacher score is no number: nan at document 1"),
    ("cross-encoder-margin-mse", {"scores": [1.0]}, "other number of labels: 1 in scores for 2 documents"),
    ("cross-encoder-margin-mse", _long(300), "too many documents: 300 documents, over most=256"),
    (
        "cross-encoder-margin-mse",
        {"scores": None},
        "labels of the wrong kind: loss 'margin-mse' needs scores; this exam",
    ),
    (
        "monobert",
        {"relevance": [3.0, 0.0]},
        "labels of the wrong kind: relevance 3.0 is above 1 for loss 'bce'; say rel",
    ),
    ("calibrated", {"relevance": [1.0, -2.0]}, "labels of the wrong kind: grade -2.0 is below 0"),
    ("rank1", {}, "labels of the wrong kind: loss 'sft' needs completion; this example has relevance, scores"),
    ("tfrank", {"relevance": [0.5, 0.0]}, "labels of the wrong kind: grade 0.5 is no whole number from 0"),
]
"""Recipe, what is changed in a good record, and what is said of it."""


@pytest.mark.parametrize(("recipe", "change", "said"), FIELDS)
def test_lines_of_json(refused: Callable[..., str], recipe: str, change: dict[str, Any], said: str) -> None:
    good = {**RECORD, "completion": "<think>birds</think> true"} if recipe == "rank1" else RECORD
    name = _third("lists.jsonl", json.dumps(good), json.dumps({**RECORD, **change}))

    assert refused(*_train(recipe, name)).startswith(f"rerank: {name}:3: {said}")


@pytest.mark.parametrize(("recipe", "change", "said"), FIELDS)
def test_rows_of_arrow(refused: Callable[..., str], recipe: str, change: dict[str, Any], said: str) -> None:
    import datasets

    nothing = dict.fromkeys(features(), None) | {"query_id": "", "where": ""}
    good = nothing | RECORD | ({"completion": "<think>birds</think> true"} if recipe == "rank1" else {})
    rows = [good, good, nothing | RECORD | change, good]
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(rows, features=features()).save_to_disk("lists.arrow")

    assert refused(*_train(recipe, "lists.arrow")).startswith(f"rerank: lists.arrow: row 3: {said}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"query": ', "malformed line: no JSON (Expecting value: line 1 column 11 (char 10)): '{\"query\": '"),
        ('{"query": "q", "documents": ["a"], "labels": [1]}', "malformed line: no field is called 'labels'"),
        ('{"query": "q", "relevance": [1]}', "malformed line: 'documents' is missing; it has 'query', 'relevance'"),
    ],
)
def test_lines_that_are_no_record(refused: Callable[..., str], line: str, said: str) -> None:
    name = _third("lists.jsonl", json.dumps(RECORD), line)

    assert refused(*_train("monobert", name)).startswith(f"rerank: {name}:3: {said}")


@pytest.mark.parametrize(
    ("bad", "more", "said"),
    [
        ("1\t2\t5\t10\t11", (), "empty query: query '5' has no text"),
        ("1\t2\t1\t10\t10", (), "positive among the negatives: '10' is relevant and irrelevant for query 'what is 1'"),
        ("1\t2\t1\t10\t21", (), "positive among the negatives: 'passage 10' is relevant and irrelevant for query"),
        ("nan\t2\t1\t10\t11", (), "teacher score is no number: nan at document 0"),
        ("x\t2\t1\t10\t11", (), "teacher score is no number: 'x' and '2'"),
        ("1\t2\t88\t10\t11", (), "unknown query: '88' is not in collection.tsv and queries.train.tsv"),
        ("1\t2\t1\t10\t888", (), "unknown document: '888' is not in collection.tsv and queries.train.tsv"),
        ("1\t2\t1\t20\t11", (), "empty document: document 0 of query 'what is 1' has no text"),
        ("1\t2\t1\t10", (), "malformed line: 4 columns where 5 are wanted: '1\\t2\\t1\\t10'"),
    ],
)
def test_margins(refused: Callable[..., str], bad: str, more: tuple[str, ...], said: str) -> None:
    name = _third("bert_cat_ensemble_msmarcopassage_train_scores_ids.tsv", MARGIN, bad)

    line = refused("examples", name, *PLACES, "--strict", "--output", "out.arrow", *more)

    assert line.startswith(f"rerank: {name}:3: {said}")
    assert not Path("out.arrow").exists()


def test_margins_of_too_many_documents_or_without_the_labels_that_a_loss_needs(refused: Callable[..., str]) -> None:
    name = _lines("bert_cat_ensemble_msmarcopassage_train_scores_ids.tsv", MARGIN)
    call = ("examples", name, *PLACES, "--strict")

    assert f"{name}:1: too many documents: 2 under query 'what is 1'" in refused(*call, "--max-documents", "1")
    assert f"{name}:1: labels of the wrong kind: query 'what is 1' has relevance, scores; order is needed" in refused(
        *call, "--needs", "order"
    )


def _conversation(query: str, documents: list[str], answer: str) -> str:
    shown = "\n".join(f"[{number}] {text}" for number, text in enumerate(documents, start=1))
    asked = f"I will provide you with passages.\n{shown}\nSearch Query: {query}.\nRank the passages above."
    turns = [("system", "You rank."), ("human", asked), ("gpt", answer)]
    return json.dumps({"conversations": [{"from": who, "value": said} for who, said in turns]})


@pytest.mark.parametrize(
    ("recipe", "bad", "said"),
    [
        ("first", _conversation(" ", ["a", "b"], "[1] > [2]"), "empty query"),
        ("first", _conversation("q", ["a", "a"], "[1] > [2]"), "document twice: 'a' under query 'q'"),
        ("first", _conversation("q", ["a", "b"], "sorry"), "order is no permutation: 'sorry' of 2 documents"),
        (
            "rankvicuna",
            _conversation("q", [f"passage {number}" for number in range(21)], "[1]"),
            "too many documents: 21 documents, over most=20",
        ),
        ("first", '{"conversations": [{"from": "human", "value": "x"}]}', "malformed line: no conversation of a human"),
    ],
)
def test_conversations(refused: Callable[..., str], recipe: str, bad: str, said: str) -> None:
    name = _third("permutations.jsonl", _conversation("what flies", ["a bird", "a stone"], "[1] > [2]"), bad)

    assert refused(*_train(recipe, name, "--quiet")).startswith(f"rerank: {name}:3: {said}")


def test_an_order_is_no_score(refused: Callable[..., str]) -> None:
    name = _lines("permutations.jsonl", _conversation("what flies", ["a bird", "a stone"], "[1] > [2]"))

    line = refused(*_train("cross-encoder-margin-mse", name))

    said = "labels of the wrong kind: loss 'margin-mse' needs scores; this example has order"
    assert line == f"rerank: {name}:1: {said}"


def test_an_order_that_was_completed_is_counted_where_it_is_trained_on(command: Callable[..., Any]) -> None:
    good = _conversation("what flies", ["a bird", "a stone"], "[2] > [1]")
    name = _third("permutations.jsonl", good, _conversation("q", ["a", "b", "c"], "[2]"))

    said = command(*_train("first", name)).stderr

    assert said.startswith("orders of the teacher that were incomplete or double, completed in the order shown: 1\n")


def _retrieved(query: str) -> str:
    passages = [{"docid": str(number), "title": "-", "text": f"passage {number}"} for number in (10, 11)]
    return json.dumps({"query": query, "positive_passages": passages[:1], "retrieved_passages": passages})


def test_permutations_beside_their_lists(refused: Callable[..., str]) -> None:
    name = _third("marco-train-10k.jsonl", _retrieved("what flies"), _retrieved(" "))
    whole, short = _lines("whole.json", json.dumps(["[1] > [2]"] * 4)), _lines("short.json", '["[1] > [2]"]')
    mute = _lines("mute.json", json.dumps(["[1] > [2]", "none", "[2]", "[2]"]))

    assert f"{name}:3: empty query" in refused("examples", name, "--permutations", whole, "--strict")
    said = f"{short} holds 1 permutations and {name} 4 lines; give its own"
    assert said in refused("examples", name, "--permutations", short)
    said = f"{name}:2: order is no permutation: 'none' of 2 documents"
    assert said in refused("examples", name, "--permutations", mute, "--strict")


@pytest.mark.parametrize(
    ("lines", "more", "said"),
    [
        (["5 Q0 10 1 2.0 r"], (), "empty query: query '5' has no text"),
        (["2 Q0 10 1 nan r"], (), "the score 'nan' is no finite number: '2 Q0 10 1 nan r'"),
        (["88 Q0 10 1 2.0 r"], (), "unknown query: '88' has no judgment in qrels.train.tsv"),
        (["77 Q0 10 1 2.0 r"], (), "unknown query: '77' is not in collection.tsv and queries.train.tsv"),
        (["2 Q0 10 1 2.0 r", "2 Q0 888 2 1.0 r"], (), "unknown document: '888' is not in collection.tsv and queries"),
        (["2 Q0 10 1 2.0 r", "2 Q0 10 2 1.0 r"], (), "document twice: '10' under query '2'"),
        (
            ["2 Q0 10 1 2.0 r", "2 Q0 21 2 1.0 r"],
            (),
            "positive among the negatives: 'passage 10' is relevant and irrel",
        ),
        (["2 Q0 11 1 2.0 r"], (), "no relevant document: none of the 1 candidates of '2'"),
        (["2 Q0 10 1 2.0 r"], ("--needs", "scores"), ""),
        (
            [f"2 Q0 {10 + rank} {rank} {9 - rank} r" for rank in range(4)],
            ("--max-documents", "3"),
            "too many documents: 4",
        ),
    ],
)
def test_runs_with_judgments(refused: Callable[..., str], lines: list[str], more: tuple[str, ...], said: str) -> None:
    name = _lines("bm25.trec", "1 Q0 10 1 3.0 r", "1 Q0 11 2 2.0 r", *lines)

    line = refused("examples", name, "--qrels", "qrels.train.tsv", *PLACES, "--strict", *more)

    kind = "labels of the wrong kind: query 'what is 1' has relevance; scores is needed"
    assert line.startswith(f"rerank: {name}:3: {said}" if said else f"rerank: {name}:1: {kind}")


def test_formats_that_name_texts_by_ids_are_told_the_command_that_joins_them(refused: Callable[..., str]) -> None:
    run = _lines("bm25.trec", "1 Q0 10 1 3.0 r")

    line = refused(*_train("monobert", run))

    assert line == (
        "rerank: bm25.trec is in the format 'run', which names its texts by ids; make examples of it first, and train "
        "on those: rerank examples bm25.trec --collection FILE --queries FILE --qrels FILE --output examples"
    )


def test_a_file_that_was_mended_is_read_again_by_the_same_command(refused: Callable[..., str]) -> None:
    name = _lines("lists.jsonl", json.dumps(RECORD), json.dumps(_long(300)))
    first = refused(*_train("monobert", name))
    _lines(name, json.dumps(RECORD), json.dumps({**RECORD, "query": " "}))

    second = refused(*_train("monobert", name))

    assert (f"{name}:2: too many documents" in first, f"{name}:2: empty query" in second) == (True, True)


def test_quantised_training_without_cuda_is_one_line_before_the_examples(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert refused(*_train("rank-without-gpt", "no-such-file.jsonl")) == (
        "rerank: student.lora.quantize='4bit' (QLoRA) needs a CUDA device, and there is none here; train unquantised "
        "adapters with --set student.lora.quantize="
    )
    assert "there is no folder no-such-file.jsonl" in refused(
        *_train("rank-without-gpt", "no-such-file.jsonl", "--set", "student.lora.quantize=")
    )
