"""Tables, a chart and a before-and-after view: what was measured, for people."""

from rerank.report.chart import chart
from rerank.report.efficiency import efficiency_markdown, efficiency_table
from rerank.report.ledger import ledger_table
from rerank.report.movement import before_after
from rerank.report.probabilities import probability_markdown, probability_table
from rerank.report.summary import Summary, summarise
from rerank.report.tables import markdown, table

__all__ = [
    "Summary",
    "before_after",
    "chart",
    "efficiency_markdown",
    "efficiency_table",
    "ledger_table",
    "markdown",
    "probability_markdown",
    "probability_table",
    "summarise",
    "table",
]
