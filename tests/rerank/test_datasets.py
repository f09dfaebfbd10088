"""A dataset is a folder, a name of the catalogue, or an ir_datasets id."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from rerank.datasets import Counts, Dataset, catalogue, names
from rerank.errors import ConfigError, FileError, InputError, UnknownName
from rerank.io import read_qrels, read_run, write_beir, write_qrels
from rerank.types import Candidate, Document, Query, Ranking

DOCUMENTS = [Document("a", "apples", "fruit"), Document("b", "bees"), Document("é", "")]
QUERIES = [Query("2", "two?"), Query("1", "one?"), Query("3", "three?")]
QRELS = {"1": {"a": 2, "b": 0}, "2": {"é": 1}}


@pytest.fixture
def folder(tmp_path):
    write_beir(tmp_path / "mine", DOCUMENTS, QUERIES, QRELS)
    return tmp_path / "mine"


def test_a_folder_is_a_dataset(folder):
    dataset = Dataset.load(folder)

    assert (dataset.name, dataset.count, dataset.measures) == ("mine", None, ("nDCG@10",))
    assert list(dataset.documents()) == DOCUMENTS
    assert dataset.qrels == QRELS
    assert [query.query_id for query in dataset.queries] == ["2", "1"]  # "3" is not judged
    assert dataset.all_queries == QUERIES


def test_a_path_as_text_and_a_gzipped_folder_are_datasets_too(folder):
    for path in [folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / "test.tsv"]:
        subprocess.run(["gzip", str(path)], check=True)

    dataset = Dataset.load(str(folder))

    assert (list(dataset.documents()), dataset.qrels) == (DOCUMENTS, QRELS)


def test_without_judgments_all_queries_are_meant(folder):
    (folder / "qrels" / "test.tsv").unlink()

    dataset = Dataset.load(folder)

    assert (dataset.qrels, dataset.queries) == ({}, QUERIES)


def test_the_split_is_test_else_the_only_one_else_the_one_named(folder):
    write_qrels(folder / "qrels" / "dev.tsv", {"3": {"a": 1}})
    assert Dataset.load(folder).qrels == QRELS
    assert Dataset.load(folder, "dev").qrels == {"3": {"a": 1}}
    assert Dataset.load(folder, "dev").name == "mine/dev"
    (folder / "qrels" / "test.tsv").unlink()
    assert Dataset.load(folder).qrels == {"3": {"a": 1}}
    write_qrels(folder / "qrels" / "train.tsv.gz", {"3": {"a": 1}})
    with pytest.raises(InputError, match=r"has the splits 'dev', 'train' and no 'test'; name the one you mean"):
        Dataset.load(folder)
    with pytest.raises(UnknownName, match=r"no split of .*mine is called 'tran'; did you mean 'train'"):
        Dataset.load(folder, "tran")


def test_a_folder_without_judgments_has_no_split_to_name(folder):
    (folder / "qrels" / "test.tsv").unlink()

    with pytest.raises(UnknownName, match="is called 'test'; there are none"):
        Dataset.load(folder, "test")


def test_a_folder_that_is_no_dataset_says_what_it_lacks(tmp_path, folder):
    with pytest.raises(FileError, match=r"holds no queries\.jsonl or queries\.jsonl\.gz; a dataset's folder holds"):
        Dataset.load(tmp_path)
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(FileError, match=r"holds no corpus\.jsonl"):
        list(Dataset.load(folder).documents())


def test_a_file_both_plain_and_gzipped_is_ambiguous(folder):
    (folder / "queries.jsonl.gz").write_bytes((folder / "queries.jsonl").read_bytes())

    with pytest.raises(FileError, match=r"holds both queries\.jsonl and queries\.jsonl\.gz"):
        Dataset.load(folder)


def test_judgments_of_a_query_that_is_not_there_are_an_error(folder):
    write_qrels(folder / "qrels" / "test.tsv", {**QRELS, "8": {"a": 1}, "9": {"a": 1}})

    with pytest.raises(InputError, match="lacks query '8' and 1 more of 4 that its judgments name"):
        _ = Dataset.load(folder).queries


def test_documents_are_looked_up_and_one_that_is_missing_is_named(folder):
    dataset = Dataset.load(folder)

    assert dataset.look_up(["é", "a"]) == {"é": DOCUMENTS[2], "a": DOCUMENTS[0]}
    assert dataset.look_up([]) == {}
    with pytest.raises(InputError, match="dataset 'mine' lacks document 'x' and 1 more of 3 asked for; give"):
        dataset.look_up(["a", "y", "x"])


def test_a_run_is_joined_to_its_texts(folder):
    dataset = Dataset.load(folder)
    scores = {"3": {"b": 2.0, "a": 1.0}, "1": {"é": 0.5}}

    assert dataset.rankings(scores) == [
        Ranking(QUERIES[2], (Candidate(DOCUMENTS[1], 2.0), Candidate(DOCUMENTS[0], 1.0))),
        Ranking(QUERIES[1], (Candidate(DOCUMENTS[2], 0.5),)),
    ]
    assert [len(ranking) for ranking in dataset.rankings(scores, cutoff=1)] == [1, 1]


@pytest.mark.parametrize(
    ("scores", "cutoff", "says"),
    [
        ({"1": {"a": 2.0, "x": 1.0}}, None, "lacks document 'x' of 2 asked for"),
        ({"1": {"a": 2.0}, "7": {"a": 1.0}}, None, "lacks query '7' of 2 that the run names"),
        ({"1": {}}, None, "query '1' has no candidate in the run"),
        ({}, None, "the run holds no query"),
        ({"1": {"a": 2.0}}, 0, "a cutoff of 0 takes no candidate"),
        ({"1": {"a": 2.0}}, -1, "a cutoff of -1 takes no candidate"),
        ({"1": {"a": 1.0, "b": 2.0}}, None, "are not best first"),
    ],
)
def test_a_run_that_does_not_fit_is_an_error(folder, scores, cutoff, says):
    with pytest.raises(InputError, match=says):
        Dataset.load(folder).rankings(scores, cutoff)


def test_beyond_the_cutoff_nothing_is_looked_up(folder):
    [ranking] = Dataset.load(folder).rankings({"1": {"a": 2.0, "x": 1.0}}, cutoff=1)

    assert ranking.documents == (DOCUMENTS[0],)


# the catalogue


def test_noveleval_ships_with_the_package():
    dataset = Dataset.load("noveleval")

    documents = list(dataset.documents())
    assert (len(documents), len(dataset.queries), sum(map(len, dataset.qrels.values()))) == (420, 21, 420)
    assert [documents[index].doc_id for index in (0, 210, -1)] == ["0-0", "10-10", "20-19"]
    assert dataset.queries[0].text == "How many different Spider-Men are there in Across the Spider-Verse?"
    assert (dataset.count, dataset.measures[0]) == (420, "nDCG@10")


def test_the_shipped_noveleval_is_the_original(shared):
    original, shipped = Dataset.load(shared / "noveleval"), Dataset.load("noveleval")

    assert list(original.documents()) == list(shipped.documents())
    assert (original.all_queries, original.qrels) == (shipped.all_queries, shipped.qrels)


def test_the_shipped_files_carry_no_time():
    for path in catalogue.folder_of(catalogue.read("noveleval")).rglob("*.gz"):
        assert path.read_bytes()[4:8] == bytes(4), path


@pytest.mark.parametrize("name", catalogue.known())
def test_every_entry_of_the_catalogue_loads_without_a_download_and_counts_what_ir_datasets_counts(name):
    entry = catalogue.read(name)
    assert entry.source
    assert entry.licence
    if entry.obtain:
        with pytest.raises(FileError, match=r"may not be handed on: .*https?://.* Then put its BEIR folder .* at "):
            Dataset.load(name)
        return

    dataset = Dataset.load(name)

    assert dataset.name == name
    assert dataset.count == entry.counts.documents
    if entry.ir_datasets:
        assert Counts(*counted(dataset)) == entry.counts


def counted(dataset):
    """What ir_datasets' own metadata say, which come with the package."""
    inner = dataset.source._dataset
    return (part().get("count") for part in (inner.docs_metadata, inner.queries_metadata, inner.qrels_metadata))


def test_the_catalogue_lists_itself():
    listed = {dataset.name: dataset for dataset in names()}

    assert list(listed) == sorted(listed)
    assert listed["dl19"].counts == Counts(8841823, 43, 9260)
    assert listed["noveleval"].description.startswith("NovelEval")


@pytest.mark.parametrize("keys", ['folder = "x"\nir_datasets = "y"', 'bright = "pony"\nobtain = "ask"', ""])
def test_an_entry_comes_from_one_place(keys, tmp_path):
    (tmp_path / "x.toml").write_text(f'description = "d"\nsource = "s"\nlicence = "l"\n{keys}')

    with pytest.raises(ConfigError, match="either a 'folder' or an 'ir_datasets' id, or says 'bright' or 'obtain'"):
        catalogue.config.read(catalogue.Entry, tmp_path / "x.toml")


def test_a_collection_that_one_has_to_ask_for_has_a_place(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "cache" / "datasets" / "robust04"
    place.parent.mkdir(parents=True)
    folder.rename(place)

    dataset = Dataset.load("robust04")

    assert (dataset.name, dataset.qrels, list(dataset.documents())) == ("robust04", QRELS, DOCUMENTS)


def test_all_of_beir_is_there_and_knows_which_sets_hide_a_query_from_itself():
    known = set(catalogue.known())
    eighteen = {
        *("beir-msmarco", "trec-covid", "nfcorpus", "bioasq", "nq", "hotpotqa", "fiqa", "signal1m", "trec-news"),
        *(
            "robust04",
            "arguana",
            "touche2020",
            "quora",
            "dbpedia-entity",
            "scidocs",
            "fever",
            "climate-fever",
            "scifact",
        ),
    }

    assert eighteen <= known
    assert len([name for name in known if name.startswith("cqadupstack-")]) == 12
    assert len([name for name in known if name.startswith("nano-")]) == 13
    assert {name for name in known if catalogue.read(name).own_document} == {"arguana", "quora"}


def test_a_query_that_is_a_document_is_kept_from_itself(folder):
    plain = Dataset.load(folder)
    own = Dataset("own", plain.source, own_document=True)

    assert plain.excluded == {}
    assert own.excluded == {"2": frozenset({"2"}), "1": frozenset({"1"}), "3": frozenset({"3"})}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("novelevl", "no dataset is called 'novelevl'; did you mean 'noveleval'?"),
        ("beir/scifct/test", "no dataset is called 'beir/scifct/test'; did you mean 'beir/scifact/test'?"),
        ("qqqq", "no dataset is called 'qqqq'; 'rerank datasets' lists those that have a name"),
    ],
)
def test_an_unknown_name_is_told_what_is_near(name, says):
    with pytest.raises(UnknownName) as caught:
        Dataset.load(name)

    assert str(caught.value).startswith(says)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", ["./nothing", "/nothing/here", Path("nothing")])
def test_what_can_only_be_a_folder_is_called_one(name):
    with pytest.raises(FileError, match="there is no folder"):
        Dataset.load(name)


def test_a_split_that_the_catalogues_dataset_lacks_is_named():
    assert Dataset.load("scifact", "train").name == "scifact/train"
    with pytest.raises(UnknownName, match="ir_datasets knows no split 'dev' of 'beir/scifact'"):
        Dataset.load("scifact", "dev")


# ir_datasets


class TitledDoc(NamedTuple):
    doc_id: str
    title: str
    text: str

    def default_text(self):
        return f"{self.title} {self.text}"


class BodyDoc(NamedTuple):
    doc_id: str
    headline: str
    body: str

    def default_text(self):
        return f"{self.headline}: {self.body}"


@pytest.fixture
def register(folder, monkeypatch):
    """Gives a folder's files to ir_datasets, under an id that is forgotten when the test ends."""
    import ir_datasets
    from ir_datasets.formats import JsonlDocs, JsonlQueries, TrecQrels
    from ir_datasets.util import LocalDownload

    monkeypatch.setattr(ir_datasets.registry, "_registered", dict(ir_datasets.registry._registered))

    def registered(name, doc=TitledDoc, qrels=QRELS):
        fields = {"title": "title", "text": "text", "headline": "title", "body": "text"}
        mapping = {"doc_id": "_id", **{field: fields[field] for field in doc._fields[1:]}}
        query = {"query_id": "_id", "text": "text"}
        parts = [
            JsonlDocs(LocalDownload(folder / "corpus.jsonl"), doc, mapping),
            JsonlQueries(LocalDownload(folder / "queries.jsonl"), mapping=query),
        ]
        if qrels:
            write_qrels(folder / "qrels.txt", qrels)
            parts.append(TrecQrels(LocalDownload(folder / "qrels.txt"), {}))
        ir_datasets.registry.register(name, ir_datasets.Dataset(*parts))

    return registered


def test_an_ir_datasets_id_is_a_dataset(register):
    register("mine/test")

    for dataset in (Dataset.load("mine/test"), Dataset.load("mine", "test")):
        assert (dataset.name, dataset.count, dataset.measures) == ("mine/test", None, ("nDCG@10",))
        assert list(dataset.documents()) == DOCUMENTS
        assert dataset.qrels == QRELS
        assert [query.query_id for query in dataset.queries] == ["2", "1"]
        assert dataset.look_up(["é", "a"]) == {"é": DOCUMENTS[2], "a": DOCUMENTS[0]}
        with pytest.raises(InputError, match="lacks document 'x' of 1 asked for"):
            dataset.look_up(["x"])


def test_documents_of_another_make_give_their_whole_text(register):
    register("mine/body", doc=BodyDoc, qrels={})

    dataset = Dataset.load("mine/body")

    assert next(dataset.documents()) == Document("a", "fruit: apples")
    assert (dataset.qrels, dataset.queries) == ({}, QUERIES)


def test_what_an_id_lacks_is_said():
    dataset = Dataset.load("msmarco-passage")

    assert dataset.count == 8841823
    with pytest.raises(InputError, match="the ir_datasets id 'msmarco-passage' has no queries"):
        _ = dataset.queries


def test_judgments_that_contradict_each_other_are_an_error(register, folder):
    register("mine/torn")
    with open(folder / "qrels.txt", "a") as file:
        file.write("1 0 a 0\n")

    with pytest.raises(InputError, match="document 'a' is judged 2 and 0 for query '1'"):
        _ = Dataset.load("mine/torn").qrels


@pytest.mark.parametrize("what", ["documents", "look_up", "queries", "qrels"])
def test_without_a_network_it_is_said_what_to_fetch_and_where_to_put_it(register, folder, monkeypatch, what, tmp_path):
    import requests
    from ir_datasets.util import LocalDownload

    register("mine/far")
    request = requests.Request("GET", "https://example.org/mine.zip").prepare()

    def offline(*_):
        raise requests.exceptions.ConnectionError("no route to host", request=request)

    monkeypatch.setattr(LocalDownload, "stream", offline)
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    dataset = Dataset.load("mine/far")
    calls = {
        "documents": lambda: list(dataset.documents()),
        "look_up": lambda: dataset.look_up(["a"]),
        "queries": lambda: dataset.all_queries,
        "qrels": lambda: dataset.qrels,
    }

    with pytest.raises(FileError) as caught:
        calls[what]()

    assert "cannot get 'mine/far' (https://example.org/mine.zip): no route to host" in str(caught.value)
    assert f"copy its folder ~/.ir_datasets to {tmp_path / 'home'}" in str(caught.value)


# real collections


@pytest.mark.parametrize(
    ("name", "queries", "judgments"),
    [("scifact", 300, 339), ("trec-dl19", 43, 9260), ("cranfield", 225, 1837), ("noveleval", 21, 420)],
)
def test_real_folders_are_datasets(shared, name, queries, judgments):
    dataset = Dataset.load(shared / name)

    assert len(dataset.queries) == queries
    assert sum(map(len, dataset.qrels.values())) == judgments
    assert dataset.qrels == read_qrels(shared / name / "qrels" / "test.tsv")


def test_the_train_split_of_scifact_has_its_own_queries(shared):
    dataset = Dataset.load(shared / "scifact", "train")

    assert (len(dataset.queries), sum(map(len, dataset.qrels.values()))) == (809, 919)


def test_the_bm25_run_of_dl19_is_joined_to_its_texts(shared):
    dataset = Dataset.load(shared / "trec-dl19")

    rankings = dataset.rankings(read_run(shared / "trec-dl19" / "runs" / "bm25.trec"), cutoff=100)

    assert (len(rankings), {len(ranking) for ranking in rankings}) == (43, {100})
    assert rankings[0].query.query_id == "264014"
    assert rankings[0][0].document.text.startswith("5. Cancel. A flea can live up to a year")


def test_datasets_import_neither_torch_nor_ir_datasets():
    code = "import sys, rerank.datasets, rerank.io; print({'torch', 'ir_datasets', 'numpy'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
