"""Approximate search of SPLADE through Seismic: it finds nearly what the exact search finds, with the same scores."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tiny_models import tiny_bert

from rerank.errors import FileError, InputError, MissingExtra, UnknownName
from rerank.types import Document, Query
from retrievers.splade import Splade

pytest.importorskip("seismic", reason="needs the 'seismic' extra")

WORDS = [f"w{number}" for number in range(200)]


def texts(count: int, seed: int) -> list[str]:
    """Words of which some are common and most rare, as words are."""
    draw = random.Random(seed)
    worth = [1 / (rank + 1) for rank in range(len(WORDS))]
    return [" ".join(draw.choices(WORDS, worth, k=draw.randint(3, 20))) for _ in range(count)]


DOCUMENTS = [Document(f"d{number}", text) for number, text in enumerate(texts(400, 0))]
QUERIES = [Query(f"q{number}", text) for number, text in enumerate(texts(30, 1))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("terms")


@pytest.fixture(scope="module")
def model(folder: Path) -> str:
    return str(tiny_bert(folder / "bert", WORDS, kind="BertForMaskedLM"))


@pytest.fixture(scope="module")
def exact(folder: Path, model: str) -> Splade:
    return Splade.build(DOCUMENTS, folder / "exact", model=model, top_terms=20)


@pytest.fixture(scope="module")
def approximate(folder: Path, model: str) -> Splade:
    return Splade.build(DOCUMENTS, folder / "seismic", model=model, top_terms=20, search="seismic")


@pytest.mark.parametrize(("queries", "least"), [("model", 0.97), ("idf", 0.8)])
def test_it_finds_what_the_exact_search_finds_with_the_same_scores(
    exact: Splade, approximate: Splade, queries: str, least: float
) -> None:
    """Of a random model the few tokens of a query, which `idf` weighs, are no good guide into a text's blocks."""
    both = [Splade.open(index.folder, queries=queries) for index in (exact, approximate)]

    whole, part = (index.retrieve(QUERIES, 100) for index in both)

    shares = []
    for one, other in zip(whole, part, strict=True):
        known = {candidate.document.doc_id: candidate.score for candidate in both[0].retrieve([one.query], 400)[0]}
        assert all(known[candidate.document.doc_id] == candidate.score for candidate in other)
        wanted = {document.doc_id for document in one.documents}
        shares.append(len(wanted & {document.doc_id for document in other.documents}) / len(wanted))
    assert sum(shares) / len(shares) >= least


def test_less_of_the_index_finds_less(folder: Path, model: str, exact: Splade, approximate: Splade) -> None:
    """One term of a query, and blocks left out early: that the options reach the search."""
    hasty = Splade.build(
        *(DOCUMENTS, folder / "hasty"), model=model, top_terms=20, search="seismic", query_cut=1, postings=5
    )
    wanted = [{document.doc_id for document in ranking.documents} for ranking in exact.retrieve(QUERIES, 100)]

    found = [{document.doc_id for document in ranking.documents} for ranking in hasty.retrieve(QUERIES, 100)]

    assert sum(len(one & two) for one, two in zip(wanted, found, strict=True)) < 0.9 * sum(map(len, wanted))


def test_an_approximate_index_can_be_searched_exactly(exact: Splade, approximate: Splade) -> None:
    assert Splade.open(approximate.folder, exact=True).retrieve(QUERIES, 50) == exact.retrieve(QUERIES, 50)


def test_exclusions_cutoffs_and_empty_queries(approximate: Splade) -> None:
    best = [document.doc_id for document in approximate.retrieve(QUERIES[:1], 8)[0].documents]

    without, same = approximate.retrieve(QUERIES[:2], 5, exclude={"q0": [best[0], best[2]]})

    assert [document.doc_id for document in without.documents] == [best[1], *best[3:7]]
    assert same == approximate.retrieve(QUERIES[1:2], 5)[0]
    nothing = Splade.open(approximate.folder, queries="binary")
    assert [len(ranking) for ranking in nothing.retrieve([Query("none", "..."), QUERIES[0]], 5)] == [0, 5]


def test_what_it_prints_stays_off_standard_output(folder: Path, model: str, capfd: pytest.CaptureFixture[str]) -> None:
    Splade.build(DOCUMENTS[:40], folder / "quiet", model=model, top_terms=20, search="seismic", progress=False)

    assert capfd.readouterr().out == ""


def test_the_manifest_tells_and_a_torn_index_is_told(approximate: Splade, folder: Path) -> None:
    manifest = json.loads((approximate.folder / "manifest.json").read_text())
    assert manifest["options"]["search"] == "seismic"
    assert "pyseismic-lsr" in manifest["versions"]
    torn = folder / "torn"
    torn.mkdir()
    for path in approximate.folder.iterdir():
        (torn / path.name).write_bytes(path.read_bytes()[: 50 if path.name.endswith(".seismic") else None])

    with pytest.raises(FileError, match=r"terms\.index\.seismic is missing or torn"):
        Splade.open(torn)


def test_what_cannot_be_is_refused_before_work(folder: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, error, said in (
        ({"search": "sismic"}, UnknownName, "no search is called 'sismic'; did you mean 'seismic'"),
        ({"search": "seismic", "heap_factor": 1.5}, InputError, "heap_factor=1.5; it must be above 0 and at most 1"),
        ({"search": "seismic", "query_cut": 0}, InputError, "query_cut=0; they must be at least 1"),
    ):
        with pytest.raises(error, match=said):
            Splade.build(DOCUMENTS, folder / "no", model=model, **options)
    monkeypatch.setitem(__import__("sys").modules, "seismic", None)
    monkeypatch.setattr("retrievers.splade._encoder", None)
    with pytest.raises(MissingExtra, match=r"rerank-toolkit\[seismic\]"):
        Splade.build(DOCUMENTS, folder / "no", model=model, search="seismic")
