"""Write docs/cli.md from the help of every command.

python scripts/write_cli_reference.py            # write it
python scripts/write_cli_reference.py --check    # end with 1 when it is stale
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from rerank.cli.main import COMMANDS, main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
WIDTH = 100

HEAD = """# The command line

<!-- written by scripts/write_cli_reference.py from the help of the commands; do not edit -->

What every command does:

- Results go to standard output, everything else to standard error; `--json` prints one object for machines, and
  nothing else, on standard output.
- What was wrong with what you gave is one line on standard error, and the exit code is 2. Ctrl-C ends with 130; a suite
  that lacks datasets with 3.
- Files are written whole or not at all. Names in `.gz` are compressed.
- Long work shows a bar with rate and time left on a terminal, and a line every 30 seconds elsewhere; `--quiet` neither.
"""


def page() -> str:
    """The whole page, as Markdown."""
    context = click.Context(main, info_name="rerank", **main.context_settings)
    return HEAD + "".join(_section(*part) for part in _parts(main, context))


def _parts(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """A command and all below it."""
    yield command, context
    names = list(COMMANDS) if command is main else command.list_commands(context) if _is_group(command) else []
    for name in names:
        below = command.get_command(context, name)  # type: ignore[attr-defined]
        yield from _parts(below, click.Context(below, info_name=name, parent=context))


def _section(command: click.Command, context: click.Context) -> str:
    formatter = click.HelpFormatter(width=WIDTH)
    command.format_help(context, formatter)
    level = "##" if context.parent is None or context.parent.parent is None else "###"
    return f"\n{level} {context.command_path}\n\n```\n{formatter.getvalue().rstrip()}\n```\n"


def _is_group(command: click.Command) -> bool:
    return isinstance(command, click.Group)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write docs/cli.md from the help of every command.")
    parser.add_argument("--check", action="store_true", help="Write nothing; end with 1 when the page is stale.")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE} is stale; run: python scripts/write_cli_reference.py")
