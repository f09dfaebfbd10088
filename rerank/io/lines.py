"""Reading line by line: gzip known by its first bytes, UTF-8, and the number of every line for errors."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from rerank.errors import FileError

__all__ = ["decoded", "json_lines", "lines", "opened", "placed_lines", "shown"]

GZIP_MAGIC = b"\x1f\x8b"
UTF8_MARK = b"\xef\xbb\xbf"  # some editors put it in front of the first line


def lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """The number (from 1) and the bytes of every line that is not blank, without its end.

    Raises:
        FileError: when the file is missing, a folder, unreadable, torn gzip, or holds nothing but blank lines.
    """
    for number, _, line in placed_lines(path):
        yield number, line


def placed_lines(path: str | Path) -> Iterator[tuple[int, int, bytes]]:
    """The same with the place of each line between: at which byte it begins, in a gzipped file once it is unpacked.

    Raises:
        FileError: as `lines` does.
    """
    number, end, empty = 0, 0, True
    with opened(path) as file:
        try:
            for number, whole in enumerate(file, start=1):
                mark = len(UTF8_MARK) if number == 1 and whole.startswith(UTF8_MARK) else 0
                begin, end = end + mark, end + len(whole)
                line = whole[mark:].rstrip(b"\r\n")
                if line and not line.isspace():
                    empty = False
                    yield number, begin, line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileError(
                f"{path}:{number + 1}: the gzip data is torn or damaged ({error}); copy it again"
            ) from error
    if empty:
        raise FileError(f"{path} is empty")


def json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number and the object of every line of a JSONL file.

    Raises:
        FileError: as `lines` does, and when a line is no JSON object in UTF-8.
    """
    for number, line in lines(path):
        text = decoded(line, f"{path}:{number}")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:  # a number of thousands of digits is a bare ValueError
            raise FileError(f"{path}:{number}: no JSON ({error}): {shown(line)}") from error
        if not isinstance(value, dict):
            raise FileError(f"{path}:{number}: a JSON object should stand here: {shown(line)}")
        yield number, value


def decoded(line: bytes, where: str) -> str:
    """UTF-8 as text; `where` begins the error."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{where}: no UTF-8 (byte {error.start + 1} of the text): {shown(line)}") from error


def shown(line: bytes, limit: int = 120) -> str:
    """The beginning of a line, quoted, for an error."""
    text = line.decode("utf-8", "backslashreplace")
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}…"


@contextmanager
def opened(path: str | Path) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked where it is gzipped.

    Raises:
        FileError: when the file is missing, a folder or unreadable.
    """
    try:
        with open(path, "rb") as file:
            if file.peek(2)[:2] == GZIP_MAGIC:
                with gzip.open(file) as unpacked:
                    yield cast(IO[bytes], unpacked)
            else:
                yield file
    except IsADirectoryError as error:
        raise FileError(f"{path} is a folder; a file is wanted here") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
