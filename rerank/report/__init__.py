"""Tables, a chart and a before-and-after view: what was measured, for people."""

from rerank.report.changes import Change, Moved, changes, changes_sheet
from rerank.report.chart import chart
from rerank.report.differences import differences_sheet, numbers_sheet, per_query_sheet
from rerank.report.efficiency import efficiency_markdown, efficiency_table
from rerank.report.ledger import ledger_table
from rerank.report.movement import before_after
from rerank.report.probabilities import probability_markdown, probability_table
from rerank.report.reliability import draw_reliability, reliability_of, reliability_sheet
from rerank.report.sheet import Sheet
from rerank.report.summary import Summary, summarise
from rerank.report.tables import markdown, table

__all__ = [
    "Change",
    "Moved",
    "Sheet",
    "Summary",
    "before_after",
    "changes",
    "changes_sheet",
    "chart",
    "differences_sheet",
    "draw_reliability",
    "efficiency_markdown",
    "efficiency_table",
    "ledger_table",
    "markdown",
    "numbers_sheet",
    "per_query_sheet",
    "probability_markdown",
    "probability_table",
    "reliability_of",
    "reliability_sheet",
    "summarise",
    "table",
]
