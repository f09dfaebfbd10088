"""Two runs query by query: which queries gained and lost most, and which documents moved for it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rerank.evaluate import Evaluation, order
from rerank.report.sheet import Sheet
from rerank.types import Qrels, Run, Scores

__all__ = ["Change", "Moved", "changes", "changes_sheet"]

SHOWN = 70
"""Characters of a document's text in a table."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A document and its ranks; None where it was not ranked, or where nobody judged it."""

    doc_id: str
    before: int | None
    after: int | None
    relevance: int | None

    def __str__(self) -> str:
        ranks = f"{_said(self.before)} → {_said(self.after)}"
        return f"{self.doc_id} ({_said(self.relevance)}): {ranks}"


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one query.

    Args:
        query_id: whose.
        before: the baseline's value.
        after: the system's.
        moved: the documents that explain it, the most relevant first and those that moved far before the others.
    """

    query_id: str
    before: float
    after: float
    moved: tuple[Moved, ...]

    @property
    def gain(self) -> float:
        """After less before."""
        return self.after - self.before


def changes(
    evaluations: tuple[Evaluation, Evaluation],
    runs: tuple[Run | Scores, Run | Scores],
    qrels: Qrels,
    measure: str,
    *,
    queries: int = 5,
    documents: int = 5,
    top: int = 10,
) -> tuple[list[Change], list[Change]]:
    """The queries most helped and those most hurt, each from the largest change on.

    Args:
        evaluations: the baseline's and the system's.
        runs: the baseline's and the system's.
        qrels: query_id -> doc_id -> relevance.
        measure: by which a change is measured.
        queries: how many of each kind, at most; a query that did not change is of neither.
        documents: how many of those that moved, at most.
        top: a document counts where one of the two ranks it as high as this.

    Raises:
        UnknownName: when the measure was not evaluated.
    """
    before, after = (evaluation.values(measure) for evaluation in evaluations)
    gains = sorted((after[query_id] - before[query_id], query_id) for query_id in before)
    helped = [query_id for gain, query_id in reversed(gains) if gain > 0]
    hurt = [query_id for gain, query_id in gains if gain < 0]

    def change(query_id: str) -> Change:
        moved = _moved(query_id, runs, qrels.get(query_id, {}), top)
        return Change(query_id, before[query_id], after[query_id], tuple(moved[:documents]))

    return [change(query_id) for query_id in helped[:queries]], [change(query_id) for query_id in hurt[:queries]]


def changes_sheet(
    system: str,
    baseline: str,
    measure: str,
    found: tuple[Sequence[Change], Sequence[Change]],
    texts: Mapping[str, str] | None = None,
    documents: Mapping[str, str] | None = None,
) -> Sheet:
    """The same as a table.

    Args:
        system: what was compared,
        baseline: with what,
        measure: and by what.
        found: what `changes` gave.
        texts: query_id -> text, where they are known.
        documents: doc_id -> text, where they are known; their beginnings are shown.
    """
    shown = [("helped", change) for change in found[0]] + [("hurt", change) for change in found[1]]
    rows = [
        [
            kind,
            " ".join(filter(None, [change.query_id, (texts or {}).get(change.query_id)])),
            "; ".join(_with_text(moved, documents or {}) for moved in change.moved),
            f"{change.before:.4f}",
            f"{change.after:.4f}",
            f"{change.gain:+.4f}",
        ]
        for kind, change in shown
    ]
    title = f"{system} against {baseline}: queries most helped and most hurt by {measure}"
    caption = "Documents with their relevance in brackets and their ranks before and after; –: not judged, not ranked."
    head = ["", "query", "documents that moved", "before", "after", "gain"]
    return Sheet(title, head, rows, caption if rows else "No query changed.", labels=3)


def _with_text(moved: Moved, documents: Mapping[str, str]) -> str:
    text = " ".join(documents.get(moved.doc_id, "").split())
    return f"{moved} “{textwrap.shorten(text, SHOWN, placeholder=' …')}”" if text else str(moved)


def _moved(query_id: str, runs: tuple[Run | Scores, Run | Scores], judged: Mapping[str, int], top: int) -> list[Moved]:
    before, after = (_ranks(run, query_id) for run in runs)
    near = [doc_id for doc_id in {**before, **after} if min(_rank(before, doc_id), _rank(after, doc_id)) <= top]
    moved = [
        Moved(doc_id, before.get(doc_id), after.get(doc_id), judged.get(doc_id))
        for doc_id in near
        if before.get(doc_id) != after.get(doc_id)
    ]
    far = 1 + max(len(before), len(after))

    def weight(document: Moved) -> tuple[int, int, str]:
        return -(document.relevance or 0), -abs((document.before or far) - (document.after or far)), document.doc_id

    return sorted(moved, key=weight)


def _ranks(run: Run | Scores, query_id: str) -> dict[str, int]:
    ranked = run.get(query_id)
    return {doc_id: rank for rank, doc_id in enumerate(order(query_id, ranked), start=1)} if ranked else {}


def _rank(ranks: Mapping[str, int], doc_id: str) -> float:
    return ranks.get(doc_id, float("inf"))


def _said(number: int | None) -> str:
    return "–" if number is None else str(number)
