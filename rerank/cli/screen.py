"""What a command says: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rerank.cli.progress import OnProgress, shown

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Screen", "rows", "with_screen", "wrong_usage"]

Command = TypeVar("Command", bound=Callable[..., Any])

PIPE_WIDTH = 120
"""Columns of a table that goes to a file or a pipe, unless COLUMNS says otherwise."""


@dataclass(frozen=True)
class Screen:
    """Where a command writes.

    Args:
        quiet: no progress and no closing lines; errors are always shown.
        as_json: one JSON object on standard output, and nothing else there.
    """

    quiet: bool = False
    as_json: bool = False

    def say(self, line: str) -> None:
        """A line for people, on standard error."""
        if not self.quiet:
            click.echo(line, err=True)

    def show(self, *tables: RenderableType) -> None:
        """A result for people, on standard output."""
        for table in tables:
            _console(stderr=False).print(table, markup=False, highlight=False, soft_wrap=isinstance(table, str))

    def add(self, *tables: RenderableType) -> None:
        """A table beside the result (what it cost), on standard error."""
        if not self.quiet:
            for table in tables:
                _console(stderr=True).print(table, markup=False, highlight=False)

    def answer(self, values: dict[str, Any]) -> None:
        """The result for machines, where it was asked for."""
        if self.as_json:
            click.echo(json.dumps(values, ensure_ascii=False, allow_nan=False, indent=2))

    @contextmanager
    def progress(self, title: str, unit: str) -> Iterator[OnProgress]:
        """A bar with rate and time left; what it gives is called with (done, total)."""
        with shown(title, unit, quiet=self.quiet) as on_progress:
            yield on_progress

    @property
    def bars(self) -> bool:
        """Whether a library's own bars shall be shown."""
        return not self.quiet and sys.stderr.isatty()


def with_screen(command: Command) -> Command:
    """Give a command `--json` and `--quiet`, and a `screen` that heeds them."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines on standard output.")
    @click.option("--quiet", "-q", is_flag=True, help="No progress and no summary.")
    @wraps(command)
    def with_options(*args: Any, as_json: bool, quiet: bool, **options: Any) -> Any:
        return command(*args, screen=Screen(quiet, as_json), **options)

    return with_options  # type: ignore[return-value]


def rows(title: Sequence[str], lines: Sequence[Sequence[str]]) -> RenderableType:
    """A plain table; numbers are for the caller to format."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in title:
        table.add_column(name, overflow="fold", justify="right" if name in NUMBERS else "left")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    return table


def wrong_usage(message: str) -> click.UsageError:
    """The error for options that do not go together; says where the help is."""
    return click.UsageError(message, click.get_current_context(silent=True))


NUMBERS = frozenset({"documents", "queries", "judgments", "tokens", "size"})
"""Columns that are set to the right."""


def _console(stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=stderr, width=width)
