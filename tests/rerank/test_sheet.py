"""One table, five formats."""

from __future__ import annotations

import csv
import io

from rerank.report import Sheet

HARD = Sheet("A & B", ["system", "a_b"], [["x|y, <z>", "50 %"], ['q"1', "−1"]], "100 % sure")


def test_csv_reads_back_as_what_was_written():
    assert list(csv.reader(io.StringIO(HARD.csv()))) == [list(HARD.head), *map(list, HARD.rows)]


def test_latex_shows_what_means_something_to_latex():
    lines = HARD.latex().splitlines()

    assert lines[2] == r"\caption{A \& B. 100 \% sure}"
    assert lines[3] == r"\begin{tabular}{lr}"
    assert lines[5] == r"system & a\_b \\"
    assert lines[7] == r"x\textbar{}y, \textless{}z\textgreater{} & 50 \% \\"


def test_html_and_markdown_show_texts_as_they_are():
    assert "<td class='name'>x|y, &lt;z&gt;</td><td class='number'>50 %</td>" in HARD.html()
    assert HARD.markdown().splitlines()[2] == r"| x\|y, \<z\> | 50 % |"


def test_some_of_the_columns_are_a_sheet_too():
    sheet = Sheet("t", ["a", "b", "low", "low"], [["1", "2", "3", "4"]], "c", labels=2)

    assert sheet.only("low", "b") == Sheet("t", ["b", "low"], [["2", "3"]], "c", labels=1)
