"""A plain table of texts that can be written in every format a report needs: CSV, LaTeX, Markdown, HTML, a terminal."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from rerank.report.tables import escaped

__all__ = ["Sheet"]

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "→": r"$\rightarrow$",
    "τ": r"$\tau$",
    "␠": r"\textvisiblespace{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
} | {char: f"\\{char}" for char in "&%$#_{}"}


LONGEST_NAME = 24
"""Characters."""


@dataclass(frozen=True)
class Sheet:
    """A table.

    Args:
        title: what it shows.
        head: the names of its columns.
        rows: as many texts in each as there are columns.
        caption: what a reader must know to trust it.
        labels: columns at the left that name the row; the others are set to the right, as numbers are.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    labels: int = 1

    def only(self, *names: str) -> Sheet:
        """Some of the columns, in their order; of several with a name the first."""
        places = sorted(self.head.index(name) for name in names)
        labels = sum(place < self.labels for place in places)
        rows = [[row[place] for place in places] for row in self.rows]
        return Sheet(self.title, [self.head[place] for place in places], rows, self.caption, labels)

    def csv(self) -> str:
        """Head and rows, as RFC 4180 has them but for its line ends."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self.head, *self.rows])
        return text.getvalue()

    def latex(self) -> str:
        """A `table` that stands in any document that uses the package booktabs."""
        columns = "l" * self.labels + "r" * (len(self.head) - self.labels)
        lines = [_latex_row(row) for row in self.rows]
        caption = _latex(f"{self.title}. {self.caption}".strip())
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{caption}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                _latex_row(self.head),
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def markdown(self) -> str:
        """A Markdown table, its caption below."""
        rule = [":--" if index < self.labels else "--:" for index in range(len(self.head))]
        rows = [[escaped(cell) for cell in self.head], rule, *([escaped(cell) for cell in row] for row in self.rows)]
        caption = f"\n{escaped(self.caption)}\n" if self.caption else ""
        return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n{caption}"

    def html(self) -> str:
        """An HTML table, its caption below."""
        head = self._html_cells(self.head).replace("<td", "<th").replace("</td>", "</th>")
        rows = "\n".join(f"<tr>{self._html_cells(row)}</tr>" for row in self.rows)
        caption = f"<p class='caption'>{html.escape(self.caption)}</p>" if self.caption else ""
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n{caption}"

    def table(self) -> Table:
        """For the terminal."""
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(self.title), title_justify="left")
        if self.caption:
            drawn.caption, drawn.caption_justify = Text(self.caption, style="italic dim"), "left"
        for index, name in enumerate(self.head):
            drawn.add_column(Text(name), justify="left" if index < self.labels else "right", overflow="fold")
        for row in self.rows:
            drawn.add_row(*map(Text, row))
        return drawn

    def _html_cells(self, row: Sequence[str]) -> str:
        kinds = [_kind(cell) if index < self.labels else "number" for index, cell in enumerate(row)]
        return "".join(f"<td class='{kind}'>{html.escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))


def _kind(label: str) -> str:
    """A name stays on one line."""
    return "name" if len(label) <= LONGEST_NAME else "label"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in text)


def _latex_row(row: Sequence[str]) -> str:
    return " & ".join(map(_latex, row)) + r" \\"
