"""Where fetched checkpoints are kept, and how a download is watched."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from rerank.errors import CheckpointError

__all__ = ["Progress", "ensure_space", "folder", "one_line", "watched"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called now and then during a download with the bytes that have come and the bytes there are in all."""

INTERVAL = 0.2
"""Seconds between two looks at a growing download."""


def folder() -> Path:
    """The cache of this library: RERANK_CACHE, else `rerank-toolkit` under XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("RERANK_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rerank-toolkit"


def ensure_space(place: Path, needed: int) -> None:
    """Refuse to begin what cannot end.

    Args:
        place: an existing folder on the disk that will be written.
        needed: bytes.

    Raises:
        CheckpointError: when the disk has less room than that.
    """
    free = shutil.disk_usage(place).free
    if free < needed:
        raise CheckpointError(
            f"no disk space: {needed / 1e6:,.0f} MB are needed in {place} and {free / 1e6:,.0f} MB are free; "
            "free some, or name a folder on another disk in RERANK_CACHE"
        )


@contextmanager
def watched(place: Path, total: int, progress: Progress | None) -> Iterator[None]:
    """Report how a folder grows while somebody else's program downloads into it."""
    if progress is None:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(place, total, progress, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    progress(total, total)


def _watch(place: Path, total: int, progress: Progress, done: threading.Event) -> None:
    while not done.wait(INTERVAL):
        progress(min(_size(place), total), total)


def _size(place: Path) -> int:
    sizes = 0
    for path in place.rglob("*"):
        try:  # files come and go under our eyes
            sizes += path.lstat().st_size if path.is_file() and not path.is_symlink() else 0
        except FileNotFoundError:
            continue
    return sizes


def one_line(error: BaseException | str) -> str:
    """An error of another program in one line: its first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
