"""The crash-proof record of answers: one JSON line each, appended as they arrive.

A process that is killed loses at most the line it was writing; the next one drops that torn line, says so, and asks
only for what is missing. Keys come from `rerank.questions.content_key`, so a journal may hold answers of many judges,
and an answer is only ever reused for the same model, options and texts.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import weakref
from dataclasses import fields
from pathlib import Path
from typing import Any

from rerank.errors import FileError
from rerank.questions import Answer, Compared, Graded, GradedSet, Heard, Permuted, Picked, Written, numbers_of

__all__ = ["Journal"]

HEADER = {"journal": 1, "of": "rerank-toolkit"}
KINDS: dict[str, type[Answer]] = {
    kind.__name__: kind for kind in (Graded, GradedSet, Compared, Picked, Permuted, Written, Heard)
}


class Journal:
    """Answers on disk, by key.

    Args:
        path: the file; made when it is not there, continued when it is.

    Attributes:
        recovered: answers that an earlier process had written.
        torn: 1 when an unfinished last line was dropped, else 0.

    Raises:
        FileError: when the file is no journal, is damaged before its last line, or is in use by another process.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.torn = self._size = 0
        self._answers: dict[str, Answer] = {}
        if self.path.exists() and not self.path.is_file():
            raise FileError(f"the journal {self.path} is no ordinary file, and could not be read again; choose another")
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise FileError(f"cannot open the journal {self.path}: {error.strerror}") from error
        self._release = weakref.finalize(self, _close, self._file)  # also when nobody calls `close`
        try:
            self._lock()
            self._recover()
        except BaseException:
            self.close()
            raise
        self.recovered = len(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> Answer | None:
        """The recorded answer, or None."""
        return self._answers.get(key)

    def append(self, key: str, answer: Answer) -> None:
        """Record an answer; it has reached the operating system when this returns.

        Raises:
            FileError: when it cannot be written; the file then ends with the answer before.
        """
        self._write({"key": key, "kind": type(answer).__name__, **_plain(answer)})
        self._answers[key] = answer

    def close(self) -> None:
        """Make sure that everything is on the disk, and let go of the file."""
        self._release()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FileError(
                f"the journal {self.path} is in use by another process; wait for it or choose another --journal"
            ) from error

    def _recover(self) -> None:
        """Read what is there. Nothing is changed before all of it has been seen to be a journal."""
        content = self.path.read_bytes()
        first = json.dumps(HEADER).encode()
        if not content.startswith(first + b"\n") and not (first + b"\n").startswith(content):
            raise FileError(f"{self.path} is no journal of this version; choose another --journal")
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].split(b"\n")[1:-1], start=2):
            self._read(number, line)
        self._size = whole
        if whole < len(content):
            os.ftruncate(self._file, whole)
            self.torn = int(whole > 0)
        if not whole:
            self._write(HEADER)

    def _read(self, number: int, line: bytes) -> None:
        try:
            record = json.loads(line)
            key, kind = record.pop("key"), KINDS[record.pop("kind")]
            answer = kind(**{name: _tuples(value) for name, value in record.items()})
            if not all(math.isfinite(value) for value in numbers_of(answer)):
                raise ValueError(f"{answer} is not finite")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileError(
                f"the journal {self.path} is damaged at line {number}: {line[:80]!r}; remove it or choose another"
            ) from error
        self._answers[key] = answer

    def _write(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass") + b"\n"
        done = 0
        try:
            while done < len(line):
                done += os.write(self._file, line[done:])
        except OSError as error:
            os.ftruncate(self._file, self._size)  # half a line would spoil the next one
            raise FileError(
                f"cannot write the journal {self.path}: {error.strerror}; what it holds so far is safe"
            ) from error
        self._size += done


def _close(file: int) -> None:
    os.fsync(file)
    os.close(file)


def _plain(answer: Answer) -> dict[str, Any]:
    """The fields of an answer, without empty repairs."""
    values = {field.name: getattr(answer, field.name) for field in fields(answer)}
    return {name: value for name, value in values.items() if name != "repairs" or value}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
