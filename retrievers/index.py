"""What every index on disk has in common: a folder, there whole or not at all, and a manifest that says what it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rerank import config
from rerank.checkpoints import cache
from rerank.datasets import Dataset
from rerank.errors import ConfigError, FileError

__all__ = [
    "Manifest",
    "cached_index",
    "check_corpus",
    "growing_folder",
    "new_folder",
    "read_manifest",
    "write_manifest",
]

MANIFEST = "manifest.json"
MADE_FROM = "made_from.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index is and what it was made from.

    Args:
        kind: the retriever that reads it.
        format: raised when the files change their meaning; an index of another format is built again.
        options: what the index was built with.
        documents: how many it holds.
        fingerprint: sha256 of the documents, in their order.
        source: where the documents came from, for people.
        versions: of the libraries that wrote it, for people.
        notes: whatever else the retriever wants to find again.
        files: the size of each file in bytes, so that a torn copy is noticed.
    """

    kind: str
    format: int
    options: Mapping[str, Any]
    documents: int
    fingerprint: str
    source: str
    versions: Mapping[str, str]
    notes: Mapping[str, Any]
    files: Mapping[str, int] = dataclasses.field(default_factory=dict)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Complete an index: the manifest is written last, with the sizes of the files beside it."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != MADE_FROM}
    values = dataclasses.asdict(dataclasses.replace(manifest, files=sizes))
    (folder / MANIFEST).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path, kind: str, format: int) -> Manifest:
    """The manifest of an index that this version can read.

    Raises:
        FileError: when there is no index, a torn one, one of another kind, or one of another format.
    """
    manifest = _parsed(folder)
    if manifest.kind != kind:
        raise FileError(f"{folder} is an index for {manifest.kind!r}, not for {kind!r}")
    if manifest.format != format:
        written = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
        raise FileError(
            f"{folder} has format {manifest.format} (written by {written}) and this version reads {format}; "
            "build it again"
        )
    for name, size in manifest.files.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != size:
            raise FileError(f"{folder / name} is missing or torn: it should have {size} bytes; build the index again")
    return manifest


def check_corpus(manifest: Manifest, dataset: Dataset, folder: Path) -> None:
    """Refuse an index of another corpus, which would answer too, with the wrong documents.

    One that does not say what it was built from is taken at its word.

    Raises:
        FileError: when it is one.
    """
    if manifest.source and not dataset.has_corpus_of(manifest.source):
        raise FileError(
            f"{folder} was built from {manifest.source}, not from {dataset.name}; give the index of that dataset"
        )


def _parsed(folder: Path) -> Manifest:
    if not folder.is_dir():
        raise FileError(f"there is no index at {folder}; build one, or give another folder")
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{folder} is no index, or half of one: {MANIFEST} cannot be read; build it again") from error
    try:
        return config.build(Manifest, json.loads(text), str(folder / MANIFEST))
    except (ValueError, TypeError, ConfigError) as error:
        raise FileError(f"{folder / MANIFEST} is no manifest of ours ({error}); build the index again") from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that becomes `folder` at the end, or vanishes when anything goes wrong.

    Raises:
        FileError: when there is something at `folder` already, or the disk refuses.
    """
    _refuse_existing(folder)
    part = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(folder)
    except OSError as error:
        _refuse_existing(folder)  # another process was faster
        raise FileError(f"cannot write the index {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def growing_folder(folder: Path, made_from: Mapping[str, Any]) -> Iterator[Path]:
    """A folder to write into that becomes `folder` at the end; when anything goes wrong it stays, for the next try.

    Args:
        folder: the index.
        made_from: what the work depends on, besides the documents; a part that was made from something else is begun
            anew.

    Raises:
        FileError: when there is something at `folder` already, another process is building it, or the disk refuses.
    """
    _refuse_existing(folder)
    part = folder.parent / f".{folder.name}.building"
    said = json.dumps(made_from, sort_keys=True)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{part}.lock", timeout=0):
            _begin(part, said)
            yield part
            (part / MADE_FROM).unlink()
            part.rename(folder)
    except Timeout as error:
        raise FileError(f"another process is building {folder}; wait for it, or name another folder") from error
    except OSError as error:
        raise FileError(f"cannot write the index {folder}: {error.strerror or error}") from error
    finally:
        if not part.exists():
            Path(f"{part}.lock").unlink(missing_ok=True)


def _begin(part: Path, said: str) -> None:
    """The part of an earlier try, if it was made from the same."""
    told = part / MADE_FROM
    if part.exists() and (not told.exists() or told.read_text(encoding="utf-8") != said):
        shutil.rmtree(part)
    part.mkdir(exist_ok=True)
    told.write_text(said, encoding="utf-8")


def _refuse_existing(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileError(f"{folder} exists already; open it, remove it or give another folder")


def cached_index(kind: str, format: int, dataset: Dataset, options: Mapping[str, Any]) -> Path:
    """Where the index of a dataset lies that was built without being told where.

    It is in the library's cache; another corpus, option or format is another folder.
    """
    root = cache.folder()
    made_from = json.dumps([kind, format, dataset.corpus_key, options], sort_keys=True)
    digest = hashlib.sha256(made_from.encode("utf-8", "surrogatepass")).hexdigest()
    return root / "indexes" / f"{dataset.name.replace('/', '-')}-{kind}-{digest[:16]}"
