"""Systems by measures, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.table import Table
from rich.text import Text

from rerank.evaluate import Evaluation, Interval
from rerank.report.summary import Cell, Summary, summarise
from rerank.significance import LEVEL, RESAMPLES, SEED

__all__ = ["escaped", "markdown", "table"]

_SPAN = len("0.123–0.456")
_GAP = 3  # blanks that rich puts between two columns of this box


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a system's block: its name with the means, or what is known about them."""

    label: str
    values: tuple[str, ...]
    best: tuple[bool, ...] = ()  # given for the line of means only

    @property
    def is_head(self) -> bool:
        """Whether the line opens a system's block."""
        return bool(self.best)


def table(
    evaluations: Mapping[str, Evaluation],
    baseline: str | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> ConsoleRenderable:
    """A block of lines for each system, a column for each measure, for the terminal.

    Measures that do not fit the width go into a second table below: nothing is cut off.

    Raises:
        UnknownName, InputError: as `summarise` does.
    """
    return _SystemTable(summarise(evaluations, baseline, level=level, resamples=resamples, seed=seed))


def markdown(
    evaluations: Mapping[str, Evaluation],
    baseline: str | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> str:
    """The same as a Markdown table, the best mean of each measure in bold.

    Raises:
        UnknownName, InputError: as `summarise` does.
    """
    summary = summarise(evaluations, baseline, level=level, resamples=resamples, seed=seed)
    head = ["system", *(escaped(measure) for measure in summary.measures)]
    rows = [head, [":--", *("--:" for _ in summary.measures)], *(_marked(line) for line in _lines(summary))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{escaped(summary.caption)}\n"


@dataclass(frozen=True, slots=True)
class _SystemTable:
    summary: Summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = list(_lines(self.summary))
        room = options.max_width - max(len(_indented(line)) for line in lines)
        for columns in _parts([max(len(measure), _SPAN) + _GAP for measure in self.summary.measures], room):
            yield self._part(lines, columns)
        yield Text(self.summary.caption, style="italic dim")

    def _part(self, lines: Sequence[Line], columns: slice) -> Table:
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        drawn.add_column("system", overflow="fold")
        for measure in self.summary.measures[columns]:
            drawn.add_column(Text(measure), justify="right", overflow="fold")
        for index, line in enumerate(lines):
            if index and line.is_head:
                drawn.add_section()
            drawn.add_row(*_styled(line, columns))
        return drawn


def _parts(widths: Sequence[int], room: int) -> Iterator[slice]:
    """Columns that fit side by side, at least one at a time."""
    start, used = 0, 0
    for index, width in enumerate(widths):
        if index > start and used + width > room:
            yield slice(start, index)
            start, used = index, 0
        used += width
    yield slice(start, len(widths))


def _lines(summary: Summary) -> Iterator[Line]:
    for name, cells in summary.cells.items():
        present = tuple(cells.values())
        best = tuple(_is_best(summary, measure, cell) for measure, cell in cells.items())
        title = f"{name} (baseline)" if name == summary.baseline else name
        yield Line(title, tuple(f"{cell.mean:.4f}" for cell in present), best)
        yield Line(f"{100 * summary.level:.4g} % interval", tuple(_span(cell.interval) for cell in present))
        yield from _comparison_lines(present)


def _comparison_lines(cells: tuple[Cell, ...]) -> Iterator[Line]:
    found = [cell.comparison for cell in cells if cell.comparison is not None]
    if found:
        yield Line("difference", tuple(f"{comparison.difference:+.4f}" for comparison in found))
        yield Line("p", tuple(_p(comparison.p_randomisation) for comparison in found))
        yield Line("p of the t-test", tuple(_p(comparison.p_t) for comparison in found))
        yield Line("better/equal/worse", tuple(f"{c.wins}/{c.ties}/{c.losses}" for c in found))


def _is_best(summary: Summary, measure: str, cell: Cell) -> bool:
    return len(summary.cells) > 1 and cell.mean == max(cells[measure].mean for cells in summary.cells.values())


def _span(interval: Interval) -> str:
    return f"{interval.low:.3f}–{interval.high:.3f}"


def _p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _indented(line: Line) -> str:
    return line.label if line.is_head else f"  {line.label}"


def _styled(line: Line, columns: slice) -> list[Text]:
    values = line.values[columns]
    if not line.is_head:
        return [Text(_indented(line), style="dim"), *(Text(value, style="dim") for value in values)]
    styles = ["bold green" if best else "" for best in line.best[columns]]
    return [
        Text(line.label, style="bold"),
        *(Text(value, style=style) for value, style in zip(values, styles, strict=True)),
    ]


def _marked(line: Line) -> list[str]:
    if not line.is_head:
        return [f"&emsp;{line.label}", *line.values]
    values = zip(line.values, line.best, strict=True)
    return [escaped(line.label), *(f"**{value}**" if best else value for value, best in values)]


def escaped(text: str) -> str:
    """Markdown that shows the text as it is, inside a table too."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|" else char for char in text)
