"""BRIGHT's files in the very layout in which they are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow", reason="BRIGHT's files are parquet: pip install 'rerank-toolkit[bright]'")
pq = pytest.importorskip("pyarrow.parquet")

from rerank.datasets import Dataset, catalogue  # noqa: E402
from rerank.datasets.bright import SUBSETS, WITHOUT_LONG, Bright  # noqa: E402
from rerank.errors import FileError, InputError, UnknownName  # noqa: E402
from rerank.types import Document  # noqa: E402

PASSAGES = [("page one/part 0.txt", "A moth flies to a lamp."), ("b/1.txt", ""), ("c", "Lamps are hot.")]
PAGES = [("page one", "A moth flies to a lamp. It circles."), ("b", "Nothing.")]
EXAMPLES = [
    {"id": "0", "query": "Why do moths circle?", "gold_ids": ["page one/part 0.txt", "c"], "excluded_ids": ["N/A"]},
    {"id": "1", "query": "Which lamp?", "gold_ids": ["c"], "excluded_ids": ["b/1.txt", "b/1.txt"]},
    {"id": "2", "query": "Unjudged?", "gold_ids": ["N/A"], "excluded_ids": []},
]
LONG = {"0": ["page one"], "1": ["N/A"], "2": ["N/A"]}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "BRIGHT"
    examples = [{**example, "gold_ids_long": LONG[example["id"]], "reasoning": "r"} for example in EXAMPLES]
    rewritten = [{**example, "query": f"Think: {example['query']}"} for example in examples]
    for number, rows in enumerate((PASSAGES[:2], PASSAGES[2:])):
        rows = [{"id": doc_id, "content": text} for doc_id, text in rows]
        write(home / "documents" / f"biology-0000{number}-of-00002.parquet", rows)
    pages = [{"id": doc_id, "content": text} for doc_id, text in PAGES]
    write(home / "long_documents" / "biology-00000-of-00001.parquet", pages)
    write(home / "examples" / "biology-00000-of-00001.parquet", examples)
    write(home / "gpt4_reason" / "biology-00000-of-00001.parquet", rewritten)
    write(home / "documents" / "biology_extra-00000-of-00001.parquet", [{"id": "x", "content": "another subset"}])
    return home


def test_a_folder_of_bright_is_a_dataset_for_each_subset(folder):
    dataset = Dataset.load(folder, "biology")

    assert list(dataset.documents()) == [Document(doc_id, text) for doc_id, text in PASSAGES]
    assert dataset.qrels == {"0": {"page one/part 0.txt": 1, "c": 1}, "1": {"c": 1}}
    assert [query.text for query in dataset.queries] == ["Why do moths circle?", "Which lamp?"]
    assert len(dataset.all_queries) == 3
    assert dataset.look_up(["c"]) == {"c": Document("c", "Lamps are hot.")}


def test_excluded_documents_are_told_and_nothing_stands_for_no_ids(folder):
    assert Dataset.load(folder, "biology").excluded == {"1": frozenset({"b/1.txt"})}


def test_the_long_split_has_other_documents_and_judgments(folder):
    dataset = Dataset.load(folder, "biology/long")

    assert [document.doc_id for document in dataset.documents()] == ["page one", "b"]
    assert dataset.qrels == {"0": {"page one": 1}}
    assert dataset.corpus_key != Dataset.load(folder, "biology").corpus_key


def test_queries_that_a_model_wrote_are_a_split_too(folder):
    for split, judged in (("biology/gpt4_reason", 2), ("biology/long/gpt4_reason", 1)):
        dataset = Dataset.load(folder, split)

        assert dataset.queries[0].text == "Think: Why do moths circle?"
        assert len(dataset.queries) == judged


def test_a_retriever_that_is_told_what_is_excluded_still_fills_its_list(folder, tmp_path):
    from retrievers.bm25 import BM25

    dataset = Dataset.load(folder, "biology")
    query = [query for query in dataset.queries if query.query_id == "1"]
    retriever = BM25.build(dataset.documents(), tmp_path / "index")
    free = retriever.retrieve(query, 1)[0].documents[0].doc_id

    [ranking] = retriever.retrieve(query, 1, exclude={"1": [free]})

    assert len(ranking) == 1
    assert ranking.documents[0].doc_id != free


@pytest.mark.parametrize(
    ("split", "error", "says"),
    [
        (None, InputError, "holds all of BRIGHT; name the subset as its split, such as 'biology'"),
        ("biologie", UnknownName, "no subset of BRIGHT is called 'biologie'; did you mean 'biology'"),
        ("pony", FileError, r"holds no documents/pony-00000-of-00001\.parquet; get it from https://"),
        ("aops/long", InputError, "BRIGHT's aops has no long documents"),
        ("biology/one/two", InputError, "names one folder of queries"),
        ("biology/nobody", FileError, r"holds no nobody/biology-00000-of-00001\.parquet"),
    ],
)
def test_what_is_not_there_is_named(folder, split, error, says):
    def read():
        dataset = Dataset.load(folder, split)
        return list(dataset.documents()), dataset.queries

    with pytest.raises(error, match=says):
        read()


def test_a_file_that_is_no_parquet_and_one_without_its_columns_are_errors(folder):
    file = folder / "documents" / "biology-00001-of-00002.parquet"
    file.write_bytes(b"not parquet")
    with pytest.raises(FileError, match="cannot be read as a parquet file of BRIGHT"):
        list(Dataset.load(folder, "biology").documents())
    write(file, [{"id": "c", "text": "under another name"}])
    with pytest.raises(FileError, match="lacks the column 'content'; it has id, text"):
        list(Dataset.load(folder, "biology").documents())


def test_the_catalogue_has_all_twelve_and_what_a_missing_one_needs(monkeypatch, tmp_path):
    listed = {catalogue.read(name).bright for name in catalogue.known()} - {""}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda *_, **__: (_ for _ in ()).throw(OSError("no route"))
    )

    assert listed == set(SUBSETS)
    assert set(WITHOUT_LONG) < set(SUBSETS)
    with pytest.raises(FileError) as caught:
        list(Dataset.load("bright-biology").documents())
    assert "cannot be had from the hub (no route); without it, copy documents/" in str(caught.value)
    assert "name that: --dataset FOLDER --split biology" in str(caught.value)


def test_a_snapshot_of_the_hub_is_read_where_it_lies(folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))

    assert len(list(Bright("biology").documents())) == 3
    assert Dataset.load("bright-biology").count is None
