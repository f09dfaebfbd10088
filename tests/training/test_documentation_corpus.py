"""Headings and what stands below them become queries and relevant passages, and nothing that measures is among them."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

PAGE = """<html><head><title>The kettle's manual</title><style>p {color: red}</style></head><body>
<nav><p>Home of all the kettles that the company has ever sold to anybody</p></nav>
<h1>1. Kettle manual<a href="#top">¶</a></h1><p>A kettle is for water.</p>
<h2>1.1. How to boil water</h2><p>Fill it.</p><ul><li>Press the <b>button</b> once.</li></ul><pre>boil()</pre>
<div class="para">It ends by itself.</div><p><a href="next.html">The next page</a></p>
<h2>1.2. Cleaning</h2><p>Use vinegar.</p></body></html>"""

RST = """
Tea
===

What a leaf is.

Green tea of spring
-------------------

It is :ref:`picked <picking>` early.

.. note:: Not boiled.

.. code-block:: python

   brew()

Sorts
-----

- Sencha is one.
"""

SENTENCE = "It is the water of the kettle that makes a good tea, and not the cup that it is in."


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return _loaded("documentation_corpus")


def test_html_is_cut_at_headings_without_code_menus_and_links(script: ModuleType) -> None:
    found = [(one.heading, one.above, one.paragraphs) for one in script.html_sections(PAGE)]

    assert found[1:] == [
        ("1. Kettle manual", "The kettle's manual", ["A kettle is for water."]),
        ("1.1. How to boil water", "1. Kettle manual", ["Fill it.", "Press the button once.", "It ends by itself."]),
        ("1.2. Cleaning", "1. Kettle manual", ["Use vinegar."]),
    ]


def test_restructured_text_is_cut_at_headings_too(script: ModuleType) -> None:
    found = [(one.heading, one.above, one.paragraphs) for one in script.rst_sections(RST)]

    assert found == [
        ("Tea", "", ["What a leaf is."]),
        ("Green tea of spring", "Tea", ["It is picked early.", "Not boiled."]),
        ("Sorts", "Tea", ["Sencha is one."]),
    ]


@pytest.mark.parametrize(
    ("heading", "above", "query"),
    [
        ("1.1. How to boil water", "1. Kettle", "How to boil water"),
        ("Chapter 4. A.1.2 Water kettles explained", "", "Water kettles explained"),
        ("1.2. Cleaning", "1. Kettle manual", "Kettle manual Cleaning"),
        ("Notes", "Introduction", None),
        ("class kettle.Kettle(volume=1)", "API of kettles", None),
        ("Changes in 2.4.1", "Kettle history", None),
    ],
)
def test_a_heading_asks_by_itself_or_with_the_one_above(
    script: ModuleType, heading: str, above: str, query: str | None
) -> None:
    assert script.query_of(script.Section(heading, above)) == query


def test_passages_are_whole_sentences_of_english(script: ModuleType) -> None:
    german = " ".join(["Das Wasser kocht, und der Tee zieht drei Minuten lang in der alten Kanne."] * 4)

    cut = list(script.passages_of([SENTENCE] * 6))

    assert [text.count(SENTENCE) for text in cut] == [3, 3]
    assert all(len(text.split()) <= script.MOST_WORDS for text in cut)
    assert list(script.passages_of([SENTENCE])) == []  # too short
    assert list(script.passages_of([german])) == []


def test_what_measures_is_left_out_and_counted(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = {name: _page(name) for name in ("Boiling the water", "Picking the leaves", "Warming the cups")}
    _package(tmp_path / "packages", pages)
    _collection(tmp_path / "never", query="picking THE leaves?", text=f"Somebody wrote: {_text('Warming the cups')}")
    (tmp_path / "list.toml").write_text(
        '[[package]]\narchive = "pypi"\nname = "Tea"\nversion = "1.0"\nlicence = "MIT"\nfolder = "/doc/"\n'
    )
    arguments = ["list.toml", "--output", "corpus", "--packages", "packages", "--never", "never"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["documentation_corpus.py", *arguments])

    script.main()

    [asked] = _lines(tmp_path / "corpus" / "queries.jsonl")
    texts = {row["_id"]: row["text"] for row in _lines(tmp_path / "corpus" / "corpus.jsonl")}
    judged = (tmp_path / "corpus" / "qrels" / "train.tsv").read_text().splitlines()[1:]
    [source] = json.loads((tmp_path / "corpus" / "sources.json").read_text())["packages"]
    assert asked["text"] == "Boiling the water"
    assert sorted(texts.values()) == [_text("Boiling the water"), _text("Picking the leaves")]
    assert [line.split("\t")[0] for line in judged] == [asked["_id"]]
    assert texts[judged[0].split("\t")[1]] == _text("Boiling the water")
    assert source["licence"] == "MIT"
    assert source["queries of collections that are never trained on"] == 1
    assert source["passages of collections that are never trained on"] == 1
    assert "Tea 1.0: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("dl19", "noveleval", "scifact", "said"),
    [
        (0.60, 0.71, 0.60, "The student ships"),
        (0.56, 0.90, 0.90, "bert-mini-reranker stays (DL19 at least 0.57: no"),
        (0.60, 0.68, 0.90, "NovelEval above BM25: no"),
        (0.60, 0.70, 0.50, "better on average than bert-mini-reranker: no"),
    ],
)
def test_the_student_ships_by_the_rule_alone(dl19: float, noveleval: float, scifact: float, said: str) -> None:
    before = {"trec-dl19": 0.58, "noveleval": 0.64, "scifact": 0.61}
    first = {"trec-dl19": 0.50, "noveleval": 0.69, "scifact": 0.67}
    ours = {"trec-dl19": dl19, "noveleval": noveleval, "scifact": scifact}
    means = {name: {"bm25": first[name], "bert-mini-reranker": before[name], "student": ours[name]} for name in before}

    assert said in _loaded("train_shipped_student").verdict(means, "student")


def _loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


def _text(heading: str) -> str:
    """No eight words in a row are without the heading's, so that no two of these texts share them."""
    words = heading.lower()
    return f"In {words} it is this, and {words} is that. With {words} you are not on it, for {words} is fun to us."


def _page(heading: str) -> str:
    return f"<html><body><h1>{heading}</h1><p>{_text(heading)}</p></body></html>"


def _package(folder: Path, pages: dict[str, str]) -> None:
    folder.mkdir()
    with tarfile.open(folder / "tea-1.0.tar.gz", "w:gz") as archive:
        for number, page in enumerate([*pages.values(), _page("Not below the folder")]):
            member = tarfile.TarInfo(f"tea-1.0/{'doc' if number < len(pages) else 'src'}/{number}.html")
            member.size = len(page)
            archive.addfile(member, io.BytesIO(page.encode()))


def _collection(folder: Path, *, query: str, text: str) -> None:
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "d", "text": text}) + "\n")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": query}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
