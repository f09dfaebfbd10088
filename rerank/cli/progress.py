"""Progress of long work on standard error: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import click

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

__all__ = ["OnProgress", "shown"]

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total); the total may grow."""

EVERY = 30.0
"""Seconds between two lines where nobody watches a bar."""


@contextmanager
def shown(title: str, unit: str, *, quiet: bool = False) -> Iterator[OnProgress]:
    """Something to call with (done, total).

    Args:
        title: what is being done, such as "reranking".
        unit: of what is counted, such as "pairs"; "bytes" are shown as sizes.
        quiet: show nothing.
    """
    if quiet:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        with _bar(title, unit) as on_progress:
            yield on_progress
    else:
        yield _Lines(title, unit)


@contextmanager
def _bar(title: str, unit: str) -> Iterator[OnProgress]:
    from rich import progress
    from rich.console import Console

    columns = [progress.TextColumn("{task.description}"), progress.BarColumn(), *_amounts(unit)]
    columns.append(progress.TimeRemainingColumn(elapsed_when_finished=True))
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _amounts(unit: str) -> list[ProgressColumn]:
    """How much of how much, and how fast."""
    from rich import progress
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.1f}/s", no_wrap=True)

    if unit == "bytes":
        return [progress.DownloadColumn(), progress.TransferSpeedColumn()]
    return [progress.MofNCompleteColumn(), Rate()]


class _Lines:
    """A line every `EVERY` seconds, for logs; work that is done sooner leaves none."""

    def __init__(self, title: str, unit: str) -> None:
        self._title, self._unit = title, unit
        self._began = self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said < EVERY:
            return
        self._said = now
        rate = done / (now - self._began)
        left = f", {(total - done) / rate:,.0f} s left" if rate else ""
        click.echo(f"{self._title}: {done:,} of {total:,} {self._unit}, {rate:,.1f}/s{left}", err=True)
