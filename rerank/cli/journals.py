"""Journals: the options for them, what a pipeline's file says of its own, and the checks that they are held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from rerank.cli.places import check_new_file, is_device
from rerank.cli.screen import wrong_usage
from rerank.errors import FileError, InputError

__all__ = [
    "WRITING",
    "asking_of",
    "check_use",
    "chosen_journal",
    "journal_options",
    "journalled",
    "journals_of",
    "keeps",
    "rerankers_of",
]

WRITING = ("expansion",)
"""Retrievers that have texts written, which a journal keeps."""


def journal_options(command: click.decorators.FC) -> click.decorators.FC:
    """--journal and --no-journal."""
    path = click.Path(path_type=Path)
    record = click.option(
        "--journal", type=path, metavar="FILE", help="The record of answers.  [default: OUTPUT.journal]"
    )
    none = click.option("--no-journal", is_flag=True, help="Keep no record: an interrupted command begins anew.")
    return record(none(command))


def chosen_journal(output: Path, journal: Path | None, no_journal: bool, *inputs: Path | None) -> Path | None:
    """The journal that goes with these options, checked; None when there is none, as for output to a device.

    Raises:
        UsageError: when it is named and excluded.
        FileError: when it cannot be written, or could not be read again.
        InputError: when it is one of the other files.
    """
    if journal is not None and no_journal:
        raise wrong_usage("--journal and --no-journal exclude each other")
    if no_journal or (journal is None and is_device(output)):
        return None
    chosen = journal if journal is not None else output.with_name(f"{output.name}.journal")
    _check_journal(chosen, output, *inputs)
    return chosen


def journalled(tables: list[dict[str, Any]], journal: Path | None) -> list[dict[str, Any]]:
    """A journal for every stage that asks a model and names none of its own."""
    asking = asking_of(tables)
    if journal is None or not asking:
        return tables
    numbered = {id(table): number for number, table in enumerate(tables, start=1)}

    def place(table: dict[str, Any]) -> str:
        name = journal.name.removesuffix(".journal")
        return str(journal if len(asking) == 1 else journal.with_name(f"{name}.{numbered[id(table)]}.journal"))

    return [{"journal": place(table), **table} if table in asking else table for table in tables]


def rerankers_of(tables: Sequence[Any]) -> list[dict[str, Any]]:
    """Those of a pipeline's tables that are a reranker's."""
    return [table for table in tables if isinstance(table, dict) and "reranker" in table]


def asking_of(tables: Sequence[Any]) -> list[dict[str, Any]]:
    """Those that ask a model question by question: rerankers, and what has texts written."""
    return [
        table
        for table in tables
        if isinstance(table, dict) and ("reranker" in table or table.get("retriever") in WRITING)
    ]


def check_use(tables: Sequence[Any], journal: Path | None, no_journal: bool) -> None:
    """Refuse --journal and --no-journal where they would change nothing, or not what they say.

    Raises:
        UsageError: when no stage asks a model, or one names a journal itself.
    """
    option = "--no-journal" if no_journal else "--journal"
    asking = asking_of(tables)
    own = [table for table in asking if "journal" in table]
    if (journal is None and not no_journal) or (asking and not own):
        return
    if not asking:
        raise wrong_usage(f"{option} is of no use without a reranker")
    if no_journal or len(own) == len(asking):
        raise wrong_usage(f"{option} and the file's journal {own[0]['journal']!r} exclude each other; leave out one")


def journals_of(tables: Sequence[Mapping[str, Any]], output: Path, read: Sequence[Path | None]) -> list[Path]:
    """The journals of all stages, each held to what --journal is held to, and to be no other stage's.

    Raises:
        FileError, InputError: as `chosen_journal` does.
    """
    journals: list[Path] = []
    for journal in [Path(table["journal"]) for table in tables if "journal" in table]:
        if journal.resolve() in (other.resolve() for other in journals):
            raise InputError(f"two stages have the journal {journal}; give each its own")
        _check_journal(journal, output, *read)
        journals.append(journal)
    return journals


def keeps(journal: Path) -> str:
    """What a journal is good for after success."""
    return f"the journal {journal} keeps every answer: the same command again answers from it; remove it at will"


def _check_journal(journal: Path, output: Path, *inputs: Path | None) -> None:
    """See that a journal can be written and read again, and that it is no other file of the command."""
    if is_device(journal):
        raise FileError(f"the journal {journal} is no ordinary file, and could not be read again; choose another")
    if journal.resolve() == output.resolve():
        raise InputError(f"the journal and --output are both {output}; give the journal another name")
    check_new_file(journal, *inputs)
