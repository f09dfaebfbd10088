"""A benchmark of several datasets: every pipeline over every one, into a folder of runs, numbers and a report."""

from rerank.suite.asked import Asked, Systems
from rerank.suite.place import Place
from rerank.suite.reporting import write_report
from rerank.suite.results import DatasetResult, Results
from rerank.suite.robustness import Robustness
from rerank.suite.running import evaluate_suite
from rerank.suite.suites import Suite, known

__all__ = [
    "Asked",
    "DatasetResult",
    "Place",
    "Results",
    "Robustness",
    "Suite",
    "Systems",
    "evaluate_suite",
    "known",
    "write_report",
]
