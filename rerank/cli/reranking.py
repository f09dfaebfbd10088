"""What `rerank rerank` and `rerank run` share: a reranker's progress, its end, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rerank.cli.screen import Screen
from rerank.pipeline import NO_EXCLUSIONS
from rerank.types import Ranking

if TYPE_CHECKING:
    from rerank.rerankers.reranker import Reranker

__all__ = ["closing", "interruptible", "reranked"]


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


Asking = TypeVar("Asking", bound=Any)
"""A reranker, or another stage with a ledger and a journal."""


@contextmanager
def closing(reranker: Asking, screen: Screen) -> Iterator[Asking]:
    """Say what is recovered from the journal, and let go of it at the end."""
    if reranker.journal is not None and (reranker.journal.recovered or reranker.journal.torn):
        screen.say(f"{reranker.journal.path}: {reranker.ledger.notes['journal']}")
    try:
        yield reranker
    finally:
        reranker.close()


def reranked(
    reranker: Reranker,
    rankings: Sequence[Ranking],
    screen: Screen,
    *,
    cutoff: int | None = None,
    exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS,
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

        return reranker.rerank(rankings, cutoff=cutoff, exclude=exclude, on_answer=on_answer)
