"""Progress of long work, on the terminal: how far, how fast, how long still."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["tracked", "waiting"]

T = TypeVar("T")


def tracked(items: Iterable[T], title: str, *, total: int | None = None, show: bool | None = None) -> Iterator[T]:
    """The items, with a bar on standard error that shows their rate and, when `total` is known, the time left.

    `show=None` shows it when standard error is a terminal.
    """
    if not _shown(show):
        yield from items
        return
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s")

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        yield from bar.track(items, total=total, description=title)


@contextmanager
def waiting(title: str, *, show: bool | None = None) -> Iterator[None]:
    """A sign of life during work that cannot be counted."""
    if not _shown(show):
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(title):
        yield


def _shown(show: bool | None) -> bool:
    return sys.stderr.isatty() if show is None else show
