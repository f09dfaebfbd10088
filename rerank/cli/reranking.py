"""What `rerank rerank` and `rerank run` share: journals, the progress of a reranker, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rerank.cli.places import check_new_file, is_device
from rerank.cli.screen import Screen, wrong_usage
from rerank.errors import FileError, InputError
from rerank.types import Ranking

if TYPE_CHECKING:
    from rerank.rerankers.reranker import Reranker

__all__ = ["check_journal", "chosen_journal", "closing", "interruptible", "journal_options", "keeps", "reranked"]


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
    check_journal(chosen, output, *inputs)
    return chosen


def check_journal(journal: Path, output: Path, *inputs: Path | None) -> None:
    """See that a journal can be written and read again, and that it is no other file of the command.

    Raises:
        FileError: when it cannot be written, or could not be read again.
        InputError: when it is one of the other files.
    """
    if is_device(journal):
        raise FileError(f"the journal {journal} is no ordinary file, and could not be read again; choose another")
    if journal.resolve() == output.resolve():
        raise InputError(f"the journal and --output are both {output}; give the journal another name")
    check_new_file(journal, *inputs)


@contextmanager
def interruptible(*journals: Path | None) -> Iterator[None]:
    """Ctrl-C is no bug: say what it leaves behind."""
    kept = [str(journal) for journal in journals if journal is not None]
    try:
        yield
    except KeyboardInterrupt:
        if not kept:
            raise click.Abort("without a journal nothing is kept") from None
        said = f"the journal {', '.join(kept)} keeps what was computed: the same command goes on from there"
        raise click.Abort(said) from None


@contextmanager
def closing(reranker: Reranker, screen: Screen) -> Iterator[Reranker]:
    """Say what is recovered from the journal, and let go of it at the end."""
    if reranker.journal is not None and (reranker.journal.recovered or reranker.journal.torn):
        screen.say(f"{reranker.journal.path}: {reranker.ledger.notes['journal']}")
    try:
        yield reranker
    finally:
        reranker.close()


def reranked(
    reranker: Reranker, rankings: Sequence[Ranking], screen: Screen, *, cutoff: int | None = None
) -> list[Ranking]:
    """The rankings reranked, with a progress bar.

    The scheduler opens questions little by little; where each pair is asked once, all of them are known ahead.
    """
    pairs = sum(len(ranking[:cutoff]) for ranking in rankings) if reranker.algorithm.name == "pointwise" else 0
    with screen.progress(f"reranking with {reranker.name}", "questions") as on_progress:

        def on_answer(answered: int, asked: int) -> None:
            total = reranker.ledger.total
            known = int(total.get("journal_hits", 0) + total.get("memory_hits", 0))
            on_progress(answered, max(asked, pairs - known))

        return reranker.rerank(rankings, cutoff=cutoff, on_answer=on_answer)


def keeps(journal: Path) -> str:
    """What a journal is good for after success."""
    return f"the journal {journal} keeps every answer: the same command again answers from it; remove it at will"
