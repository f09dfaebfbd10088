"""Where finished shards lie: a folder that all machines see, or an object storage, through fsspec."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fsspec

from rerank.errors import FileError, InputError

__all__ = ["Store"]

JOB, PART = "job.json", ".part"


class Store:
    """Files under a URL, each there whole or not at all.

    Args:
        url: a folder, or `s3://bucket/job`, `gs://…`, `abfs://…`: whatever fsspec knows. The credentials are those that
            the storage's own library finds in the environment.

    Raises:
        InputError: when fsspec does not know such a URL, or lacks the package for it.
        FileError: when the storage refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InputError(f"cannot use the store {url!r}: {error}; give a folder or another URL") from error

    def begin(self, job: Mapping[str, Any]) -> None:
        """Take the place for one job, or go on with it.

        Args:
            job: what its results depend on; what JSON can hold.

        Raises:
            FileError: when the store holds another job, or something else.
        """
        said = json.dumps(job, sort_keys=True, indent=1)
        there = self.finished()
        if JOB in there:
            self._check_same(said)
            return
        if there:
            raise FileError(f"the store {self.url} holds {min(there)!r} and no job of ours; name an empty place")
        self.write(JOB, said.encode())

    def finished(self) -> frozenset[str]:
        """The names of all files that are whole, as they are now."""
        with self._explained("look into"):
            self._files.invalidate_cache()
            if not self._files.exists(self._root):
                return frozenset()
            names = (str(place).rpartition("/")[2] for place in self._files.ls(self._root, detail=False))
            return frozenset(name for name in names if not name.endswith(PART))

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            FileError: when it is not there.
        """
        with self._explained(f"read {name} of"):
            content: bytes = self._files.cat_file(self._place(name))
            return content

    def write(self, name: str, content: bytes) -> None:
        """Put a file there: beside its place first, so that nobody ever sees half of it."""
        part = self._place(f".{name}.{secrets.token_hex(4)}{PART}")
        with self._explained(f"write {name} to"):
            self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(part, content)
            self._files.mv(part, self._place(name))

    def _place(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _check_same(self, said: str) -> None:
        there = self.read(JOB).decode("utf-8", "replace")
        if there != said:
            raise FileError(
                f"the store {self.url} belongs to another job ({_difference(there, said)}); "
                "name another place, or remove this one"
            )

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileError(f"cannot {what} the store {self.url}: {error.strerror or error}") from error


def _difference(there: str, wanted: str) -> str:
    """The first thing in which two jobs differ."""
    try:
        old, new = json.loads(there), json.loads(wanted)
    except ValueError:
        return f"its {JOB} is damaged"
    if not isinstance(old, dict):
        return f"its {JOB} is damaged"
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            return f"its {key} is {old.get(key)!r}, not {new.get(key)!r}"
    return "it was written by another version"
