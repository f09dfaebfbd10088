"""The crash-proof record of answers: one JSON line each, appended as they arrive.

A process that is killed loses at most the line it was writing; the next one drops that torn line, says so, and asks
only for what is missing. Keys come from `rerank.questions.content_key`, so a journal may hold answers of many judges,
and an answer is only ever reused for the same model, options and texts. Beside an answer stands what it had cost, so
that who reads it knows the whole bill. In memory there is no more than where in the file each answer stands.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rerank.errors import FileError
from rerank.questions import Answer, Compared, Graded, GradedSet, Heard, Permuted, Picked, Written, numbers_of

__all__ = ["Journal", "Recorded"]

CHUNK = 4096
"""Bytes that are read to find a line's end; most answers are far shorter."""

HEADER = {"journal": 1, "of": "rerank-toolkit"}
KINDS: dict[str, type[Answer]] = {
    kind.__name__: kind for kind in (Graded, GradedSet, Compared, Picked, Permuted, Written, Heard)
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """An answer, and what it had cost; None where its line, of an older version, does not say."""

    answer: Answer
    cost: Mapping[str, float] | None


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
        self._places: dict[str, int] = {}  # key -> where its line begins
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
        self.recovered = len(self._places)

    @property
    def history(self) -> str:
        """What was found when it was opened, for people."""
        torn = "; an unfinished last line was dropped" if self.torn else ""
        return f"{self.recovered} answers of earlier runs{torn}" if self.recovered or torn else "new"

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> Answer | None:
        """The recorded answer, or None; see `find`."""
        found = self.find(key)
        return None if found is None else found.answer

    def find(self, key: str) -> Recorded | None:
        """The recorded answer with its cost, or None.

        Raises:
            FileError: when its line is no longer what it was.
        """
        place = self._places.get(key)
        if place is None:
            return None
        found, recorded = self._parsed(f"byte {place:,}", self._line(place))
        if found != key:
            raise self._damaged(f"byte {place:,}", f"{found!r} instead of {key!r}")
        return recorded

    def append(self, key: str, answer: Answer, cost: Mapping[str, float] | None = None) -> None:
        """Record an answer; it has reached the operating system when this returns.

        Args:
            key: its `content_key`.
            answer: what was answered.
            cost: amounts, by the names in `rerank.cost.UNITS`.

        Raises:
            FileError: when it cannot be written; the file then ends with the answer before.
        """
        place = self._size
        paid = {} if cost is None else {"cost": dict(cost)}
        self._write({"key": key, "kind": type(answer).__name__, **_plain(answer), **paid})
        self._places[key] = place

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
        first = json.dumps(HEADER).encode() + b"\n"
        with self.path.open("rb") as stream:
            begun = stream.read(len(first))
            if not first.startswith(begun):
                raise FileError(f"{self.path} is no journal of this version; choose another --journal")
            place = len(begun) if begun == first else 0
            for number, line in enumerate(stream, start=2):
                if not line.endswith(b"\n"):
                    break
                key, _ = self._parsed(f"line {number}", line)
                self._places[key] = place
                place += len(line)
        self._size = place
        if place < self.path.stat().st_size:
            os.ftruncate(self._file, place)
            self.torn = int(place > 0)
        if not place:
            self._write(HEADER)

    def _line(self, place: int) -> bytes:
        line = b""
        try:
            while part := os.pread(self._file, CHUNK, place + len(line)):
                line += part
                if b"\n" in part:
                    break
        except OSError as error:
            raise FileError(f"cannot read the journal {self.path}: {error.strerror}") from error
        return line.partition(b"\n")[0]

    def _parsed(self, where: str, line: bytes) -> tuple[str, Recorded]:
        try:
            record = json.loads(line)
            key, kind, cost = record.pop("key"), KINDS[record.pop("kind")], record.pop("cost", None)
            answer = kind(**{name: _tuples(value) for name, value in record.items()})
            if not all(math.isfinite(value) for value in numbers_of(answer)):
                raise ValueError(f"{answer} is not finite")
            if cost is not None and not all(math.isfinite(amount) for amount in dict(cost).values()):
                raise ValueError(f"{cost} is not finite")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(where, repr(line[:80])) from error
        return str(key), Recorded(answer, cost)

    def _damaged(self, where: str, what: str) -> FileError:
        return FileError(f"the journal {self.path} is damaged at {where}: {what}; remove it or choose another")

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
    """The fields of an answer, without repairs and logits that it has not."""
    values = {field.name: getattr(answer, field.name) for field in fields(answer)}
    return {name: value for name, value in values.items() if name not in ("repairs", "logits") or value}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
