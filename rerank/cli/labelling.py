"""What `rerank mine`, `rerank label` and `rerank queries` share: a teacher, and examples on their way to the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank import registry
from rerank.cli import names
from rerank.cli.loading import check_reranker, fetch_reranker
from rerank.cli.reranking import closing
from rerank.cli.screen import Screen

if TYPE_CHECKING:
    from rerank.rerankers.reranker import Reranker

__all__ = ["teacher_of", "written"]


def teacher_of(
    model: str | None,
    method: str | None,
    options: Mapping[str, Any],
    journal: Path | None,
    screen: Screen,
    stack: ExitStack,
) -> Reranker | None:
    """The reranker that labels, closed with the stack; None when none is named."""
    from rerank.cli.screen import wrong_usage
    from rerank.rerankers.reranker import Reranker

    if model is None:
        said = [name for name, value in {"method": method, **options}.items() if value is not None]
        if said:
            raise wrong_usage(f"{names.flag(said[0])} is of no use without --model")
        return None
    name, given = names.asked(model, method, options)
    check_reranker(name, given)
    fetch_reranker(name, given, screen)
    return stack.enter_context(closing(Reranker(name, journal=journal, **given), screen))


def written(stream: Iterable[Any], output: Path, on_progress: Any, total: int) -> None:
    """Write a stream of examples while it is counted on the screen."""

    def watched() -> Iterator[Any]:
        for number, example in enumerate(stream, start=1):
            on_progress(number, max(number, total))
            yield example

    registry.load("training", "write-examples")(watched(), output)
