"""A summary as tables: one as a paper prints it, one with every number in a column of its own."""

from __future__ import annotations

from collections.abc import Mapping

from rerank.evaluate import Evaluation
from rerank.report.sheet import Sheet
from rerank.report.summary import Cell, Summary

__all__ = ["differences_sheet", "numbers_sheet", "p_value", "per_query_sheet"]

TITLE = "Measures with intervals, and paired tests"


def differences_sheet(summary: Summary) -> Sheet:
    """System by measure: mean, difference from the baseline, both with intervals, p-values, better/equal/worse."""
    head = ["system", "measure", "mean", "interval", "difference", "interval", "p", "p (t)", "better/equal/worse"]
    return Sheet(TITLE, head, [[*names, *_short(cell)] for names, cell in _cells(summary)], summary.caption, labels=2)


def numbers_sheet(summary: Summary) -> Sheet:
    """The same, unrounded, for programs; what the baseline has not is empty."""
    head = ["system", "measure", "mean", "low", "high", "difference", "difference_low", "difference_high"]
    head += ["p_randomisation", "p_t", "better", "equal", "worse"]
    return Sheet(TITLE, head, [[*names, *_exact(cell)] for names, cell in _cells(summary)], summary.caption, labels=2)


def p_value(value: float) -> str:
    """Four digits; smaller ones are said to be smaller."""
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _cells(summary: Summary) -> list[tuple[list[str], Cell]]:
    return [([name, measure], cell) for name, cells in summary.cells.items() for measure, cell in cells.items()]


def _short(cell: Cell) -> list[str]:
    means = [f"{cell.mean:.4f}", f"{cell.interval.low:.3f}–{cell.interval.high:.3f}"]
    if (found := cell.comparison) is None:
        return [*means, "", "", "", "", ""]
    span = f"{found.interval.low:+.3f} to {found.interval.high:+.3f}"
    tests = [p_value(found.p_randomisation), p_value(found.p_t)]
    return [*means, f"{found.difference:+.4f}", span, *tests, f"{found.wins}/{found.ties}/{found.losses}"]


def _exact(cell: Cell) -> list[str]:
    means = [repr(value) for value in (cell.mean, cell.interval.low, cell.interval.high)]
    if (found := cell.comparison) is None:
        return [*means, *[""] * 8]
    floats = (found.difference, found.interval.low, found.interval.high, found.p_randomisation, found.p_t)
    return [*means, *map(repr, floats), str(found.wins), str(found.ties), str(found.losses)]


def per_query_sheet(evaluations: Mapping[str, Evaluation]) -> Sheet:
    """Every value there is, unrounded: a row for each system and query, a column for each measure."""
    first = next(iter(evaluations.values()))
    rows = [
        [name, query_id, *(repr(evaluation.values(measure)[query_id]) for measure in first.measures)]
        for name, evaluation in evaluations.items()
        for query_id in evaluation.query_ids
    ]
    return Sheet("Values of every query", ["system", "query_id", *first.measures], rows, labels=2)
