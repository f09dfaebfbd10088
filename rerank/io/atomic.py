"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TextIO, overload

from rerank.errors import FileError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["atomic_write", "json_line"]

_STREAM = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/\w+/fd/\d+")


@overload
def atomic_write(path: str | Path, mode: Literal["w"] = "w") -> AbstractContextManager[TextIO]: ...
@overload
def atomic_write(path: str | Path, mode: Literal["wb"]) -> AbstractContextManager[BinaryIO]: ...
@contextmanager
def atomic_write(path: str | Path, mode: Literal["w", "wb"] = "w") -> Iterator[Any]:
    """A file to write to, which takes its place when the block ends well and leaves no trace when it does not.

    It is written beside its place under another name, flushed to the disk and renamed. A device or a pipe
    (`/dev/stdout`) cannot be replaced and is written directly. A file that it replaces hands its permissions on.

    Args:
        path: where the file shall be, in a folder that exists; a name in `.gz` is compressed, the same bytes each time.
        mode: "w" for text (UTF-8, lines end in a newline on every system) or "wb" for bytes.

    Raises:
        FileError: when it cannot be written, with how far it came where the disk is full.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.is_dir():
        raise FileError(f"cannot write {path}: it is a folder")
    replaced = not _is_stream(path) and (not target.exists() or target.is_file())
    place = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part") if replaced else Path(path)
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(_Output(path, place))
            if replaced and target.exists():
                _keep_permissions(target, place, path)
            yield _layered(stack, raw, mode)
        if replaced:
            _moved(place, target, path)
    except BaseException as error:
        if replaced:
            place.unlink(missing_ok=True)
        if isinstance(error, UnicodeEncodeError):
            raise FileError(f"cannot write {path}: {error.object[error.start]!r} has no UTF-8") from error
        raise


def json_line(value: object) -> str:
    """One line of a JSONL file, its end included."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


class _Output(io.FileIO):
    """The bytes' way to the disk: errors in our words, and after an error nothing more is written."""

    def __init__(self, path: str | Path, place: Path) -> None:
        self._path, self._written, self._abandoned = path, 0, False
        try:
            super().__init__(place, "a")  # /dev/stdout may be a file that holds something already
        except OSError as error:
            raise _unwritable(path, error) from error

    def write(self, data: ReadableBuffer, /) -> int:
        if self._abandoned:
            return memoryview(data).nbytes
        try:
            count = super().write(data) or 0
        except OSError as error:
            self._abandoned = True
            raise _unwritable(self._path, error, self._written) from error
        self._written += count
        return count

    def close(self) -> None:
        try:
            if not self.closed and not self._abandoned and self.seekable():
                os.fsync(self.fileno())
        except OSError as error:
            raise _unwritable(self._path, error, self._written) from error
        finally:
            super().close()

    def abandon(self, kind: type[BaseException] | None, *_: object) -> None:
        """What the layers above still hold is of no use once the block has failed."""
        self._abandoned = self._abandoned or kind is not None


def _is_stream(path: str | Path) -> bool:
    """Whether the name stands for something open, such as /dev/stdout, even where that is an ordinary file."""
    return _STREAM.fullmatch(os.path.abspath(path)) is not None


def _layered(stack: ExitStack, raw: _Output, mode: str) -> Any:
    """Buffer, gzip and text over the raw file; closed from the top when the stack unwinds."""
    file: Any = stack.enter_context(io.BufferedWriter(raw))
    if str(raw._path).endswith(".gz"):
        file = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0))
    if mode == "w":
        file = stack.enter_context(io.TextIOWrapper(file, encoding="utf-8", newline="\n"))
    stack.push(raw.abandon)
    return file


def _keep_permissions(target: Path, place: Path, path: str | Path) -> None:
    """Before the first byte: what only its owner may read is never open to others."""
    try:
        place.chmod(stat.S_IMODE(target.stat().st_mode))
    except OSError as error:
        raise _unwritable(path, error) from error


def _moved(place: Path, target: Path, path: str | Path) -> None:
    try:
        os.replace(place, target)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: str | Path, error: OSError, written: int = 0) -> FileError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FileError(
            f"no space left to write {path} ({written:,} bytes written); free some or choose another folder"
        )
    if error.errno == errno.ENOENT:
        return FileError(f"cannot write {path}: there is no folder {Path(path).parent}; create it first")
    return FileError(f"cannot write {path}: {error.strerror or error}")
