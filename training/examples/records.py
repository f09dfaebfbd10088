"""Records of published files, one at a time: the lines of JSONL, the elements of one JSON list, the rows of Parquet."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

from rerank.errors import FileError
from rerank.io.lines import decoded, lines, opened, shown
from rerank.registry import extra_for
from training.examples.record import BadExample

__all__ = ["Records", "objects", "records"]

Records: TypeAlias = Iterator[tuple[str, dict[str, Any] | BadExample]]

CHUNK = 1 << 20
"""Bytes of a list that are read at once; an element and this much is held."""

LONGEST_TOKEN = 16
"""More characters than an escape or a word such as -Infinity has, which may go on behind what was read."""


def records(path: str | Path) -> Records:
    """`path:line` (of Parquet `path: row n`) and each record, or why it is none.

    Raises:
        FileError: when the file cannot be read, or a list breaks off, holds what is no JSON (what stands behind that
            cannot be told), or is not all that the file holds.
        MissingExtra: when it is Parquet, and pyarrow is not installed.
    """
    if Path(path).name.endswith(".parquet"):
        return _rows(path)
    return _elements(path) if _is_list(path) else objects(path)


def objects(path: str | Path) -> Records:
    """`path:line` and the object of every line, or why there is none."""
    for number, line in lines(path):
        where = f"{path}:{number}"
        try:
            values = json.loads(decoded(line, where))
        except FileError:
            yield where, BadExample("malformed line", f"no UTF-8: {shown(line)}", where)
        except (ValueError, RecursionError) as error:
            yield where, BadExample("malformed line", f"no JSON ({error}): {shown(line)}", where)
        else:
            good = isinstance(values, dict)
            yield where, values if good else BadExample("malformed line", f"no JSON object: {shown(line)}", where)


def _is_list(path: str | Path) -> bool:
    with opened(path) as file:
        while head := file.read(CHUNK):
            if text := head.removeprefix(codecs.BOM_UTF8).strip():
                return text.startswith(b"[")
    return False


def _elements(path: str | Path) -> Records:
    with opened(path) as file:
        text = _Text(path, file)
        text.open()
        while not text.ends_with("]"):
            where = f"{path}:{text.line}"
            value = text.value()
            good = isinstance(value, dict)
            yield where, value if good else BadExample("malformed line", f"no JSON object: {str(value)[:60]!r}", where)
            text.skip(" \t\r\n,")
        text.close()


class _Text:
    """The text of a file as far as it is needed, and the line on which it goes on."""

    def __init__(self, path: str | Path, file: IO[bytes]) -> None:
        self.path, self.line = path, 1
        self._file, self._decoder = file, codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._whole = "", 0, False

    def open(self) -> None:
        """Go on behind the bracket that opens the list."""
        self.skip(" \t\r\n")
        self._pass(1)
        self.skip(" \t\r\n")

    def skip(self, characters: str) -> None:
        """Go on behind any of these."""
        while True:
            end = self._at  # nothing is copied: there are many elements in what was read at once
            while end < len(self._text) and self._text[end] in characters:
                end += 1
            self._pass(end - self._at)
            if end < len(self._text) or not self._more():
                return

    def ends_with(self, character: str) -> bool:
        """Whether the list is over."""
        if self._at == len(self._text):
            raise FileError(f"{self.path}:{self.line}: the list breaks off; copy the file again")
        return self._text[self._at] == character

    def close(self) -> None:
        """See that nothing stands behind the bracket that closes the list: it would be left out."""
        self._pass(1)
        self.skip(" \t\r\n")
        if self._at < len(self._text):
            raise FileError(f"{self.path}:{self.line}: more stands behind the list; one list, or an object a line")

    def value(self) -> Any:
        """The next value."""
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if self._is_final(error) or not self._more():
                    raise FileError(f"{self.path}:{self.line}: no JSON ({error})") from error
                continue
            if end == len(self._text) and self._more():
                continue  # a number may go on
            self._pass(end - self._at)
            return value

    def _is_final(self, error: Exception) -> bool:
        """Whether more of the file would not help, so that a broken element does not have all of it read."""
        if not isinstance(error, json.JSONDecodeError):
            return True
        return not error.msg.startswith("Unterminated string") and error.pos < len(self._text) - LONGEST_TOKEN

    def _pass(self, count: int) -> None:
        self.line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def _more(self) -> bool:
        """Read on, and forget what was passed."""
        if self._whole:
            return False
        read = self._file.read(CHUNK)
        try:
            found = self._decoder.decode(read, final=not read)
        except UnicodeDecodeError as error:
            raise FileError(f"{self.path}:{self.line}: no UTF-8 in what follows") from error
        self._text, self._at, self._whole = self._text[self._at :] + found, 0, not read
        return bool(read)


def _rows(path: str | Path) -> Records:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise extra_for("reading Parquet", "datasets") from error
    try:
        file = ParquetFile(path)
    except (OSError, ArrowInvalid) as error:
        raise FileError(f"cannot read {path} as Parquet: {error}") from error
    number = 0
    for batch in file.iter_batches(batch_size=64):
        for row in batch.to_pylist():
            number += 1
            yield f"{path}: row {number}", row
