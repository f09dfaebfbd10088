"""First stages from the command line: a wrong index, disk or collection is one line and exit code 2."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_models import tiny_bert

from rerank.cli.main import main

WORDS = ("red", "green", "blue", "grey", "fish", "bird", "stone", "river", "cloud", "tree")
RETRIEVERS = ("bm25", "dense", "doc2query", "lucene", "splade")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two collections of different documents, `one` and `other`, and models without sense."""
    folder = tmp_path_factory.mktemp("first-stages")
    for name in ("one", "other"):
        draw = random.Random(name)
        (folder / name / "qrels").mkdir(parents=True)
        texts = [" ".join(draw.choices(WORDS, k=20)) for _ in range(200)]
        lines = (json.dumps({"_id": f"{name}{n}", "text": text}) + "\n" for n, text in enumerate(texts))
        (folder / name / "corpus.jsonl").write_text("".join(lines))
        (folder / name / "queries.jsonl").write_text('{"_id": "q", "text": "blue fish"}\n')
        (folder / name / "qrels/test.tsv").write_text(f"query-id\tcorpus-id\tscore\nq\t{name}1\t1\n")
    tiny_bert(folder / "bert", WORDS)
    tiny_bert(folder / "masked", WORDS, kind="BertForMaskedLM")
    return folder


def options(retriever: str, place: Path, flan: Path) -> list[str]:
    if retriever == "lucene" and find_spec("pyserini") is None:
        pytest.skip("needs the 'lucene' extra: pip install 'rerank-toolkit[lucene]'")
    model = {"dense": place / "bert", "splade": place / "masked", "doc2query": flan}.get(retriever)
    more = ["expansions=1", "new_tokens=1", "max_tokens=4"] if retriever == "doc2query" else []
    said = [*([f"model={model}"] if model else []), *more]
    return [word for each in said for word in ("--option", each)]


def refused(*command: str | Path) -> str:
    """The one line of a command that must be refused."""
    result: Result = CliRunner().invoke(main, [*map(str, command)])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_an_index_of_another_corpus_half_of_one_and_one_of_another_kind(retriever, place, flan, tmp_path):
    index, half = tmp_path / "index", tmp_path / "half"
    given = options(retriever, place, flan)
    command = ["index", "--dataset", place / "one", "--retriever", retriever, *given, "--output", index]
    built = CliRunner().invoke(main, [*map(str, command)])
    assert built.exit_code == 0, built.output
    search = ("retrieve", "--retriever", retriever, "--output", tmp_path / "run.trec")

    by_flag = refused(*search, "--dataset", place / "other", "--index", index)
    by_option = refused(*search, "--dataset", place / "other", *given, "--option", f"index={index}")
    shutil.copytree(index, half)
    (half / "manifest.json").unlink()
    torn = refused(*search, "--dataset", place / "one", "--index", half)
    wrong = "bm25" if retriever != "bm25" else "splade"
    of_other_kind = refused(*search[:2], wrong, *search[3:], "--dataset", place / "one", "--index", index)

    for line in (by_flag, by_option):
        assert f"{index} was built from one, not from other; give the index of that dataset" in line
    assert "half is no index, or half of one: manifest.json cannot be read; build it again" in torn
    assert f"is an index for {retriever!r}, not for {wrong!r}" in of_other_kind
    assert not (tmp_path / "run.trec").exists()


@pytest.mark.parametrize("retriever", ["bm25", "splade"])  # Lucene's in tests/retrievers/test_lucene.py
def test_a_full_disk(retriever, place, flan, tmp_path):
    """A limit on the size of files, as `ulimit -f` sets it, in a process of its own."""
    given = options(retriever, place, flan)
    command = ["index", "--dataset", place / "one", "--retriever", retriever, *given, "--output", tmp_path / "index"]
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)); "
    code = limited + "from rerank.cli.main import main; main()"

    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=300)

    assert done.returncode == 2, done.stderr
    assert done.stderr == f"rerank: cannot write the index {tmp_path / 'index'}: File too large\n"
    assert not (tmp_path / "index").exists()


def test_two_first_stages_over_different_documents(place, tmp_path):
    from retrievers.bm25 import BM25
    from retrievers.hybrid import Hybrid

    for name in ("one", "other"):
        command = ["index", "--dataset", place / name, "--retriever", "bm25", "--output", tmp_path / name]
        CliRunner().invoke(main, [*map(str, command)])
    both = ",".join(f'{{retriever="bm25",index="{tmp_path / name}"}}' for name in ("one", "other"))
    search = ("retrieve", "--dataset", place / "one", "--retriever", "hybrid", "--output", tmp_path / "run.trec")

    line = refused(*search, "--option", f"retrievers=[{both}]")

    assert f"{tmp_path / 'other'} was built from other, not from one" in line
    with pytest.raises(ValueError, match="search different documents: bm25 200 of one; bm25 200 of other"):
        Hybrid([BM25.open(tmp_path / "one"), BM25.open(tmp_path / "other")])


@pytest.mark.parametrize("retriever", ["bm25", "lucene", "hybrid", "expansion"])
def test_an_unknown_dataset_and_a_missing_option(retriever, tmp_path):
    search = ("retrieve", "--retriever", retriever, "--output", tmp_path / "run.trec")

    assert "noveleva" in refused(*search, "--dataset", "noveleva")
    if retriever in ("hybrid", "expansion"):
        assert "option" in refused(*search, "--dataset", "noveleval")


def test_runs_and_judgments_of_different_collections_are_told(place, tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    for name in ("one", "other"):
        command = ["retrieve", "--dataset", place / name, "--retriever", "bm25", "--output", tmp_path / f"{name}.trec"]
        CliRunner().invoke(main, [*map(str, command)])
    runs = [str(tmp_path / f"{name}.trec") for name in ("one", "other")]

    fused = CliRunner().invoke(main, ["fuse", "--run", runs[0], "--run", runs[1], "--output", str(tmp_path / "f.trec")])
    itself = CliRunner().invoke(
        main, ["fuse", "--run", runs[0], "--run", runs[0], "--output", str(tmp_path / "g.trec")]
    )
    judged = CliRunner().invoke(main, ["evaluate", "--run", runs[1], "--dataset", str(place / "one")])

    assert "name no document in common, in no query; see that they are of one collection" in fused.stderr
    assert "in common" not in itself.stderr
    assert f"note: no judgment names a document of {runs[1]}; see that both are of one collection" in judged.stderr
