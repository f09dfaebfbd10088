"""How good the probabilities of runs are, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from rerank.calibration import BINS, Quality
from rerank.report.tables import escaped

__all__ = ["probability_markdown", "probability_table"]

CAPTION = (
    f"Scores as probabilities; 0 is best for both. ECE: expected calibration error over {BINS} bins of equal width. "
    "Brier: mean squared difference of probability and label. Documents without a judgment count as irrelevant."
)


def probability_table(systems: Mapping[str, Quality]) -> Table:
    """System by system: ECE, Brier score, and how many scored documents they are of."""
    head, *lines = _rows(systems)
    drawn = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, caption=Text(CAPTION, style="italic dim"), caption_justify="left"
    )
    for index, name in enumerate(head):
        drawn.add_column(Text(name), justify="right" if index else "left", overflow="fold")
    for line in lines:
        drawn.add_row(*(Text(cell) for cell in line))
    return drawn


def probability_markdown(systems: Mapping[str, Quality]) -> str:
    """The same as a Markdown table."""
    head, *lines = _rows(systems)
    rule = [":--", *("--:" for _ in head[1:])]
    rows = [[escaped(cell) for cell in head], rule, *([escaped(cell) for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{escaped(CAPTION)}\n"


def _rows(systems: Mapping[str, Quality]) -> Iterator[list[str]]:
    yield ["system", "ECE", "Brier", "documents"]
    for name, found in systems.items():
        yield [name, f"{found.ece:.4f}", f"{found.brier:.4f}", f"{found.examples:,}"]
