"""BEIR's folders in the very layout in which they are published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rerank.datasets import Dataset
from rerank.errors import FileError, InputError
from rerank.suite import Asked, Suite, evaluate_suite
from rerank.types import Document, Query

FORUMS = Suite.load("beir").groups["CQADupStack"]
PARTS = [name.removeprefix("cqadupstack-") for name in FORUMS]

# as the archives have them: metadata beside the text, titles that are empty or missing, numbers for ids in qrels alone
CORPUS = [
    {"_id": "4983", "title": "Fish", "text": "Fish swim in rivers.", "metadata": {}},
    {"_id": "5836", "title": "", "text": "Birds do not swim."},
    {"_id": "doc 3", "text": "Rivers and lakes.", "metadata": {"url": "https://example.org/3"}},
    {"_id": "7912", "title": "Only a title", "text": ""},
]
ASKED = [
    {"_id": "q 1", "text": "what swims in rivers", "metadata": {"query": "?", "narrative": "!"}},
    {"_id": "2", "text": "which birds swim", "metadata": {}},
    {"_id": "3", "text": "nobody judged this", "metadata": {}},
]
JUDGED = [("q 1", "4983", 2), ("q 1", "doc 3", 1), ("2", "5836", 1), ("2", "gone", 1)]


def lay_out(folder: Path) -> Path:
    (folder / "qrels").mkdir(parents=True)
    for name, records in (("corpus", CORPUS), ("queries", ASKED)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    rows = "".join(f"{query_id}\t{doc_id}\t{score}\n" for query_id, doc_id, score in JUDGED)
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")
    return folder


def test_titles_may_be_missing_and_ids_may_hold_blanks(tmp_path):
    dataset = Dataset.load(lay_out(tmp_path / "set"))

    assert list(dataset.documents()) == [
        Document("4983", "Fish swim in rivers.", "Fish"),
        Document("5836", "Birds do not swim."),
        Document("doc 3", "Rivers and lakes."),
        Document("7912", "", "Only a title"),
    ]
    assert dataset.look_up(["doc 3", "7912"])["7912"].full_text == "Only a title"
    assert dataset.qrels["q 1"] == {"4983": 2, "doc 3": 1}


def test_queries_without_judgments_are_not_asked_and_judgments_without_documents_stay(tmp_path):
    dataset = Dataset.load(lay_out(tmp_path / "set"))

    assert dataset.queries == [Query("q 1", "what swims in rivers"), Query("2", "which birds swim")]
    assert len(dataset.all_queries) == 3
    assert dataset.qrels["2"] == {"5836": 1, "gone": 1}  # it counts as one that nobody can find
    with pytest.raises(InputError, match="lacks document 'gone' of 1 asked for"):
        dataset.look_up(["gone"])


def test_judgments_of_a_query_that_is_not_there_and_a_query_without_words_are_told(tmp_path):
    folder = lay_out(tmp_path / "set")
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("9\t4983\t1\n")
    with pytest.raises(InputError, match="lacks query '9' of 3 that its judgments name"):
        _ = Dataset.load(folder).queries
    with (folder / "queries.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "9", "text": " ", "metadata": {}}) + "\n")
    with pytest.raises(FileError, match=r"queries\.jsonl:4: query '9' has no text"):
        _ = Dataset.load(folder).queries


@pytest.fixture
def forums(tmp_path, monkeypatch):
    """CQADupStack as its archive unpacks: a folder for each forum."""
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    for part in PARTS:
        lay_out(tmp_path / "cqadupstack" / part)
    qrels = tmp_path / "cqadupstack" / PARTS[0] / "qrels" / "test.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\n2\t4983\t1\n")  # one forum where all goes wrong
    return tmp_path / "cqadupstack"


def test_cqadupstacks_twelve_parts_are_a_suite_and_ids_with_blanks_reach_its_runs(forums, tmp_path):
    suite = Suite.load(str(forums))
    said: list[str] = []

    asked = Asked(suite, {"bm25": [{"retriever": "bm25", "cutoff": 4}]})
    results = evaluate_suite(asked, tmp_path / "out", say=said.append)

    assert sorted(suite.titles) == sorted(PARTS)
    assert len(suite.titles) == 12
    found = {one.title: one for one in results.found.values()}
    good = found[PARTS[1]].mean("bm25")
    assert found[PARTS[0]].mean("bm25") < good
    assert results.mean("bm25") == pytest.approx((found[PARTS[0]].mean("bm25") + 11 * good) / 12)
    assert f"{PARTS[1]} lacks 1 of 4 judged documents, 'gone' for one" in said
    run = (tmp_path / "out" / "runs" / PARTS[1] / "bm25.trec").read_text()
    assert "q␠1 Q0 4983 1 " in run
    assert " doc␠3 " in run
    assert found[PARTS[1]].evaluations["bm25"].values("nDCG@10")["q 1"] > 0.9


def test_an_id_that_holds_the_sign_for_a_blank_is_refused(forums, tmp_path):
    corpus = forums / PARTS[1] / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("doc 3", "doc␠3"))

    with pytest.raises(InputError, match="the id 'doc␠3' holds '␠', which stands for a blank"):
        evaluate_suite(Asked(Suite.load(str(forums / PARTS[1])), {"bm25": [{"retriever": "bm25"}]}), tmp_path / "out")
