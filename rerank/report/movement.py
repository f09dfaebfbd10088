"""One query before and after: what moved, and was it relevant?"""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rerank.errors import InputError
from rerank.types import Candidate, Qrels, Ranking

__all__ = ["before_after"]


def before_after(first: Ranking, second: Ranking, qrels: Qrels, top: int = 5) -> RenderableType:
    """The heads of two rankings of one query, side by side.

    Each document with its rank, its relevance (– where nobody judged it) and the beginning of its text, cut to the
    width of the terminal with …; on the right also how far it moved: ▲3, ▼1, =, or new.

    Args:
        first: before, on the left.
        second: after, on the right.
        qrels: query_id -> doc_id -> relevance.
        top: how many ranks are shown.

    Raises:
        InputError: when the rankings are of two queries, or `top` is below 1.
    """
    if first.query.query_id != second.query.query_id:
        raise InputError(f"{first.query.query_id!r} and {second.query.query_id!r} are two queries; show one at a time")
    if top < 1:
        raise InputError(f"top is {top}; show at least 1 rank")
    judged = qrels.get(first.query.query_id, {})
    ranks = {document.doc_id: rank for rank, document in enumerate(first.documents, start=1)}
    drawn = _empty_table()
    for rank in range(1, min(top, max(len(first), len(second))) + 1):
        before, after = first[rank - 1 : rank], second[rank - 1 : rank]
        drawn.add_row(str(rank), *_left(before, judged), *_right(after, ranks, judged, rank))
    title = Text.assemble((first.query.query_id, "dim"), " ", (first.query.text, "bold"))
    return Group(title, drawn)


def _empty_table() -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    drawn.add_column("rank", justify="right", no_wrap=True)
    for side in ("before", "after"):
        if side == "after":
            drawn.add_column("moved", justify="right", no_wrap=True)
        drawn.add_column("rel", justify="right", no_wrap=True)
        drawn.add_column(side, no_wrap=True, overflow="ellipsis", ratio=1)
    return drawn


def _left(here: Ranking, judged: Mapping[str, int]) -> list[Text]:
    return _shown(here[0], judged) if here else [Text(), Text()]


def _right(here: Ranking, ranks: Mapping[str, int], judged: Mapping[str, int], rank: int) -> list[Text]:
    if not here:
        return [Text(), Text(), Text()]
    return [_moved(ranks.get(here[0].document.doc_id), rank), *_shown(here[0], judged)]


def _shown(candidate: Candidate, judged: Mapping[str, int]) -> list[Text]:
    relevance = judged.get(candidate.document.doc_id)
    style = "dim" if relevance is None else "green" if relevance > 0 else ""
    words = " ".join(candidate.document.full_text.split())  # one line, whatever the text
    return [Text("–" if relevance is None else str(relevance), style=style), Text(words or "(no text)", style=style)]


def _moved(before: int | None, after: int) -> Text:
    if before is None:
        return Text("new", style="cyan")
    if before == after:
        return Text("=", style="dim")
    return Text(f"▲{before - after}", style="green") if before > after else Text(f"▼{after - before}", style="yellow")
