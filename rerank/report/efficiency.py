"""Quality for computation as a table: what a PetaFLOP buys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from rerank.efficiency import Efficiency
from rerank.report.ledger import si
from rerank.report.tables import escaped

__all__ = ["efficiency_markdown", "efficiency_table"]

LABELS = {"flops": "executed", "flops_estimated": "estimated"}
CAPTION = (
    "Per PetaFLOP, means over queries that cost something (Peng et al., 2025); executed: counted from what was "
    "computed; estimated: the paper's closed form."
)


def efficiency_table(systems: Mapping[str, Sequence[Efficiency]]) -> Table:
    """System by system: FLOPs of a query, queries per PetaFLOP, and each measure per PetaFLOP."""
    head, *lines = _rows(systems)
    caption = Text(" ".join([CAPTION, *_left_out(systems)]), style="italic dim")
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    for index, name in enumerate(head):
        drawn.add_column(Text(name), justify="right" if index > 1 else "left", overflow="fold")
    for line in lines:
        drawn.add_row(*(Text(cell) for cell in line))
    return drawn


def efficiency_markdown(systems: Mapping[str, Sequence[Efficiency]]) -> str:
    """The same as a Markdown table."""
    head, *lines = _rows(systems)
    rule = [":--" if index < 2 else "--:" for index in range(len(head))]
    rows = [[escaped(cell) for cell in head], rule, *([escaped(cell) for cell in line] for line in lines)]
    caption = escaped(" ".join([CAPTION, *_left_out(systems)]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{caption}\n"


def _rows(systems: Mapping[str, Sequence[Efficiency]]) -> Iterator[list[str]]:
    measures = next(iter(systems.values()))[0].rpp
    yield ["system", "FLOPs", "a query", "QPP", *(f"RPP of {measure}" for measure in measures)]
    for name, found in systems.items():
        for one in found:
            numbers = [one.qpp, *one.rpp.values()]
            yield [name, LABELS[one.amount], f"{si(one.flops)}FLOP", *(si(number).strip() for number in numbers)]


def _left_out(systems: Mapping[str, Sequence[Efficiency]]) -> list[str]:
    free = {name: len(found[0].without_cost) for name, found in systems.items() if found[0].without_cost}
    if not free:
        return []
    return [f"Queries that cost nothing, left out: {', '.join(f'{name} {count}' for name, count in free.items())}."]
