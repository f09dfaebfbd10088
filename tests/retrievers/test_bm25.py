"""BM25: its scores by hand, its index on disk, real collections."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.datasets import Dataset
from rerank.errors import FileError, InputError
from rerank.types import Document, Query
from retrievers.bm25 import BM25, METHODS
from retrievers.postings import best

FISH = [
    Document("a", "fish fish bird"),
    Document("b", "fish"),
    Document("c", "bird cat dog horse"),
    Document("d", "", title=""),
]


@pytest.fixture
def fish(tmp_path: Path) -> BM25:
    return BM25.build(FISH, tmp_path / "index")


def found(bm25: BM25, text: str, cutoff: int = 10) -> list[str]:
    [ranking] = bm25.retrieve([Query("q", text)], cutoff)
    return [document.doc_id for document in ranking.documents]


def test_scores_are_lucenes_by_hand(fish):
    # idf = ln(1 + (N - df + .5) / (df + .5)); tf part = tf / (tf + k1 (1 - b + b length / mean length)); N = 4, mean 2
    idf = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    fish_in_a = idf * 2 / (2 + 0.9 * (1 - 0.4 + 0.4 * 3 / 2))
    bird_in_a = idf * 1 / (1 + 0.9 * (1 - 0.4 + 0.4 * 3 / 2))
    bird_in_c = idf * 1 / (1 + 0.9 * (1 - 0.4 + 0.4 * 4 / 2))
    fish_in_b = idf * 1 / (1 + 0.9 * (1 - 0.4 + 0.4 * 1 / 2))

    [ranking] = fish.retrieve([Query("q", "The fishes and the bird")], cutoff=10)

    scores = {candidate.document.doc_id: candidate.score for candidate in ranking}
    assert scores == pytest.approx({"a": fish_in_a + bird_in_a, "b": fish_in_b, "c": bird_in_c}, rel=1e-6)


def test_a_word_said_twice_in_the_query_counts_twice(fish):
    [once], [twice] = (fish.retrieve([Query("q", text)], 1)[0] for text in ("dog", "dog dogs"))

    assert twice.score == pytest.approx(2 * once.score)


def test_query_side_weighs_the_querys_terms_as_a_documents_by_hand(fish):
    # N = 4, mean length 2; "fish" is held by 2 documents, "horse" by 1; the query has 3 terms that documents hold
    fish_idf = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    horse_idf = math.log(1 + (4 - 1 + 0.5) / (1 + 0.5))
    norm = {length: 0.9 * (1 - 0.4 + 0.4 * length / 2) for length in (1, 3, 4)}
    fish_in_query, horse_in_query = fish_idf * 2 / (2 + norm[3]), horse_idf * 1 / (1 + norm[3])

    [ranking] = BM25.open(fish.folder, query_side=True).retrieve([Query("q", "fish, the horse, fishes unheard")], 10)

    scores = {candidate.document.doc_id: candidate.score for candidate in ranking}
    assert scores == pytest.approx(
        {
            "a": fish_in_query * fish_idf * 2 / (2 + norm[3]),
            "b": fish_in_query * fish_idf * 1 / (1 + norm[1]),
            "c": horse_in_query * horse_idf * 1 / (1 + norm[4]),
        },
        rel=1e-6,
    )


def test_query_side_is_how_an_index_is_searched_and_not_which(animals, monkeypatch):
    plain = BM25.of(Dataset.load(animals))
    monkeypatch.setattr(Dataset, "documents", lambda _: pytest.fail("the corpus was read again"))

    weighed = BM25.of(Dataset.load(animals), query_side=True)

    assert (weighed.folder, weighed.manifest) == (plain.folder, plain.manifest)
    assert weighed.retrieve([Query("q", "fish")], 1) != plain.retrieve([Query("q", "fish")], 1)
    assert found(weighed, "unheard of") == []


def test_query_side_is_refused_where_it_has_no_meaning(fish, animals):
    other = BM25.build(FISH, animals / "other", method="atire")

    with pytest.raises(InputError, match="query_side is defined for method 'lucene', and the index's is 'atire'"):
        BM25.open(other.folder, query_side=True)
    with pytest.raises(InputError, match="query_side is defined for method 'lucene'"):
        BM25.of(Dataset.load(animals), method="robertson", query_side=True)
    change(fish.folder, notes={key: value for key, value in fish.manifest.notes.items() if key != "mean_length"})
    with pytest.raises(FileError, match="remove it and build it again"):
        BM25.open(fish.folder, query_side=True)


def test_the_title_is_searched_too(tmp_path):
    bm25 = BM25.build([Document("a", "text", title="Whales"), Document("b", "whale")], tmp_path / "index")

    assert found(bm25, "whale") == ["b", "a"]


def test_documents_that_share_no_term_are_not_retrieved(fish):
    assert found(fish, "horse") == ["c"]
    assert found(fish, "the unheard of") == []


def test_equal_scores_keep_the_order_of_the_collection(tmp_path):
    documents = [Document(name, "same words") for name in "zyxwvutsrq"]

    bm25 = BM25.build([*documents, Document("best", "same")], tmp_path / "index")

    assert [found(bm25, "same", cutoff) for cutoff in (1, 2, 5)] == [["best"], ["best", "z"], ["best", *"zyxw"]]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5]), min_size=1), st.integers(1, 12))
def test_the_best_are_those_of_a_full_stable_sort(scores, count):
    expected = sorted((index for index, score in enumerate(scores) if score > 0), key=lambda index: -scores[index])

    indices, values = best(np.array(scores, dtype=np.float32), count)

    assert indices == expected[:count]
    assert values == [scores[index] for index in indices]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_ranks_and_is_kept(tmp_path, method):
    bm25 = BM25.build(FISH, tmp_path / "index", method=method, k1=1, b=0.75, stop_words="none", stemmer="none")

    assert found(bm25, "cat") == ["c"]
    assert BM25.open(tmp_path / "index").options == bm25.options
    assert (bm25.options.method, bm25.options.k1, bm25.options.stemmer) == (method, 1, "none")


def test_many_threads_get_what_one_gets(fish):
    queries = [Query(str(n), text) for n, text in enumerate(["fish", "birds", "cats and dogs", "horse"] * 25)]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda query: fish.retrieve([query], 3)[0], queries))

    assert together == fish.retrieve(queries, 3)


def test_documents_come_back_from_disk_as_they_were(tmp_path):
    documents = [
        Document("1", 'line\nbreak "quoted" \u2028 \U0001f600', title="töp"),
        Document("\ud800", "a lone surrogate \udfff in text"),
        Document("2", ""),
    ]

    store = BM25.build(iter(documents), tmp_path / "index").documents

    assert list(store) == documents
    assert store[-1] == documents[-1]
    assert store[1:] == documents[1:]
    assert json.loads((tmp_path / "index" / "documents.jsonl").read_text().splitlines()[0])["_id"] == "1"


def test_the_documents_file_is_mapped_and_not_read(fish):
    array = fish.documents._lines

    assert isinstance(array.base, np.memmap)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "no documents"),
        ([Document("a", "x"), Document("a", "y")], "'a' occurs twice"),
        ([Document("a", "the"), Document("b", "...")], "none of the 2 documents"),
    ],
)
def test_a_collection_that_cannot_be_indexed_leaves_nothing_behind(tmp_path, documents, message):
    with pytest.raises(InputError, match=message):
        BM25.build(documents, tmp_path / "index")

    assert list(tmp_path.iterdir()) == []


def test_documents_that_break_off_leave_nothing_behind(tmp_path):
    def torn():
        yield FISH[0]
        raise InputError("corpus.jsonl:2: no JSON")

    with pytest.raises(InputError, match=r"corpus\.jsonl:2"):
        BM25.build(torn(), tmp_path / "index")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k1": -1}, "k1 is -1"),
        ({"k1": math.nan}, "k1 is nan"),
        ({"k1": True}, "k1 is True"),
        ({"b": 1.5}, "b is 1.5"),
        ({"b": "a"}, "b is 'a'"),
        ({"method": "lucen"}, "did you mean 'lucene'"),
        ({"stemmer": "prter"}, "did you mean 'porter'"),
        ({"stop_words": "german"}, "stop_words is 'german'"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        BM25.build(FISH, tmp_path / "index", **options)


def test_an_index_is_not_overwritten(fish):
    with pytest.raises(FileError, match="exists already"):
        BM25.build(FISH, fish.folder)


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(FileError, match="cannot write the index"):
        BM25.build(FISH, tmp_path / "file" / "index")


def change(folder: Path, **values: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | values))


def test_what_is_no_index_of_ours_is_refused(fish, tmp_path):
    (tmp_path / "empty").mkdir()

    for folder, message in [(tmp_path / "missing", "there is no index"), (tmp_path / "empty", "half of one")]:
        with pytest.raises(FileError, match=message):
            BM25.open(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "dense"}, "for 'dense', not for 'bm25'"),
        ({"format": 99}, "format 99 .*bm25s"),
        ({"notes": {"example": ["other", "terms"]}}, "analysed text differently"),
        ({"documents": "many"}, "no manifest of ours"),
        ({"options": {"k3": 1}}, "no key is called 'k3'"),
    ],
)
def test_an_index_of_another_kind_or_version_is_refused(fish, values, message):
    change(fish.folder, **values)

    with pytest.raises(InputError, match=message):
        BM25.open(fish.folder)


@pytest.mark.parametrize("name", ["documents.jsonl", "data.csc.index.npy", "vocab.index.json"])
def test_a_torn_file_is_noticed(fish, name):
    path = fish.folder / name
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(FileError, match=f"{name} is missing or torn"):
        BM25.open(fish.folder)


def test_the_manifest_tells_what_was_indexed(fish, tmp_path):
    other = BM25.build(FISH[:3], tmp_path / "other", source="three animals").manifest

    assert (other.documents, other.source, other.options["k1"]) == (3, "three animals", 0.9)
    assert other.fingerprint != fish.manifest.fingerprint
    assert fish.manifest.versions.keys() == {"rerank-toolkit", "bm25s", "PyStemmer", "regex"}


@pytest.fixture
def animals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A BEIR folder, and an empty cache."""
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "animals"
    folder.mkdir()
    lines = [json.dumps({"_id": document.doc_id, "text": document.text}) + "\n" for document in FISH]
    (folder / "corpus.jsonl").write_text("".join(lines))
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "fish"}\n')
    return folder


def test_the_index_of_a_dataset_is_built_once(animals, monkeypatch):
    first = BM25.of(Dataset.load(animals))
    monkeypatch.setattr(Dataset, "documents", lambda _: pytest.fail("the corpus was read again"))

    again = BM25.of(Dataset.load(animals))

    assert again.folder == first.folder
    assert first.folder.parent == animals.parent / "cache" / "indexes"
    assert found(again, "fish") == ["a", "b"]


def test_another_option_or_corpus_is_another_index(animals):
    first = BM25.of(Dataset.load(animals))

    assert BM25.of(Dataset.load(animals), k1=1.2).folder != first.folder
    (animals / "corpus.jsonl").write_text('{"_id": "new", "text": "fish"}\n')
    assert found(BM25.of(Dataset.load(animals)), "fish") == ["new"]


def test_an_index_in_a_folder_of_ones_own_keeps_its_options(animals):
    BM25.of(Dataset.load(animals), index=animals / "mine")

    with pytest.raises(FileError, match=r"built with .*k1=0.9.*, not with .*k1=1.2"):
        BM25.of(Dataset.load(animals), index=animals / "mine", k1=1.2)


def test_a_race_for_the_same_index_is_won_by_the_first(animals, tmp_path, monkeypatch):
    dataset = Dataset.load(animals)
    read = Dataset.documents

    def slow(self: Dataset):
        monkeypatch.setattr(Dataset, "documents", read)
        BM25.of(dataset, index=tmp_path / "index")  # another process, faster than this one
        return read(self)

    monkeypatch.setattr(Dataset, "documents", slow)

    assert len(BM25.of(dataset, index=tmp_path / "index")) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["animals", "index"]


def test_progress_shows_how_fast_and_how_far(tmp_path, capsys):
    BM25.build(FISH, tmp_path / "index", total=4, progress=True)

    shown = capsys.readouterr()
    assert "indexing" in shown.err
    assert "4/4" in shown.err
    assert "/s" in shown.err
    assert not shown.out


@pytest.mark.parametrize(
    ("name", "cutoff", "expected"),
    [("scifact", 100, 0.6777), ("cranfield", 100, 0.4113), ("noveleval", 20, 0.6901)],
)
def test_real_collections_give_their_known_figures(shared, tmp_path, name, cutoff, expected):
    dataset = Dataset.load(shared / name)
    bm25 = BM25.build(dataset.documents(), tmp_path / "index")

    rankings = bm25.retrieve(dataset.queries, cutoff)

    run = {
        ranking.query.query_id: {candidate.document.doc_id: candidate.score for candidate in ranking}
        for ranking in rankings
    }
    measured = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], dataset.qrels, run)
    assert measured[ir_measures.nDCG @ 10] == pytest.approx(expected, abs=0.0005)
