"""What was measured, and what it says about what was published."""

from __future__ import annotations

from dataclasses import dataclass

from reproductions import row as rows
from reproductions.row import Figure, Row

__all__ = ["Measured", "published_first", "share", "verdict"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One value, beside which published figures are put.

    Args:
        row: of which system.
        collections: over which; the mean where they are several.
        value: what came out.
        first_stage: the same measure of the candidates as they came.
        interval: of the mean over queries, 95 %; empty for several collections.
        queries: how many were judged.
        depth: candidates of each.
        weights: of which models, and where they came from.
        differences: in what it is not what the source did; empty where it can be compared.
        questions, repairs: how many were answered, and what was wrong with answers and put right.
    """

    row: str
    collections: tuple[str, ...]
    measure: str
    value: float
    first_stage: float
    interval: tuple[float, ...]
    queries: int
    depth: int
    weights: tuple[str, ...]
    differences: tuple[str, ...]
    date: str
    questions: int = 0
    repairs: int = 0


def published_first(row: Row, collection: str, measure: str) -> Figure | None:
    """What is published of a row's first stage by itself, in the row that is named like it."""
    if row.first_stage not in rows.names() or row.name == row.first_stage:
        return None
    figures = rows.read(row.first_stage).figure
    return next((each for each in figures if (each.collections, each.measure) == ((collection,), measure)), None)


def verdict(measured: Measured, figure: Figure, row: Row) -> str:
    """What a measured value says about a published one."""
    if measured.differences:
        return f"not comparable: {', '.join(measured.differences)}"
    within = abs(measured.value - figure.value) <= row.tolerance + 5e-5  # figures are rounded to four digits
    return f"{'within' if within else 'FURTHER OFF THAN'} {share(row.tolerance)}"


def share(value: float) -> str:
    """Four digits, as measures are written, without the naught in front."""
    return f"{value:.4f}".removeprefix("0")
