"""What came out of a suite, and its tables."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rerank.datasets import Dataset
from rerank.efficiency import efficiencies
from rerank.errors import InputError
from rerank.evaluate import Evaluation
from rerank.report import (
    Change,
    Sheet,
    Summary,
    changes,
    changes_sheet,
    differences_sheet,
    numbers_sheet,
    reliability_sheet,
    summarise,
)  # fmt: skip
from rerank.report.ledger import duration, si
from rerank.report.reliability import Reliability
from rerank.suite.costs import Cost
from rerank.suite.robustness import Robustness, robustness_sheet
from rerank.suite.suites import Suite
from rerank.types import Scores

__all__ = ["DatasetResult", "Results"]


@dataclass(frozen=True)
class DatasetResult:
    """One dataset.

    Args:
        title: what it is called.
        evaluations: system -> values.
        costs: system -> bill.
        moved: a table for each system but the baseline: queries most helped and hurt.
        robust: what perturbations did to each system.
        probabilities: system -> how good they are, of systems whose scores were calibrated.
    """

    title: str
    evaluations: Mapping[str, Evaluation]
    costs: Mapping[str, Cost]
    moved: tuple[Sheet, ...]
    robust: tuple[Robustness, ...] = ()
    probabilities: Mapping[str, Reliability] = field(default_factory=dict)

    @property
    def measure(self) -> str:
        """The first measure: the one that is averaged over datasets."""
        return next(iter(self.evaluations.values())).measures[0]

    def mean(self, system: str) -> float:
        """A system's mean under it."""
        return self.evaluations[system].means[self.measure]

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        evaluations: Mapping[str, Evaluation],
        runs: Mapping[str, Scores],
        costs: Mapping[str, Cost],
        baseline: str,
    ) -> DatasetResult:
        """From the runs, with what moved between the baseline and each of the others."""
        measure = next(iter(evaluations.values())).measures[0]
        cutoff = re.search(r"@(\d+)$", measure)
        top = int(cutoff[1]) if cutoff else 10
        found = {}
        for name in (name for name in evaluations if name != baseline):
            both, two = (evaluations[baseline], evaluations[name]), (runs[baseline], runs[name])
            found[name] = changes(both, two, dataset.qrels, measure, top=top)
        texts = _texts(dataset, [change for each in found.values() for kind in each for change in kind])
        moved = [changes_sheet(name, baseline, measure, each, *texts) for name, each in found.items()]
        return cls(dataset.name, evaluations, costs, tuple(moved))


@dataclass(frozen=True)
class Results:
    """A whole suite.

    Args:
        suite: which.
        baseline: the system that the others are compared with.
        found: dataset, as the suite names it -> result.
        unavailable: dataset -> why it could not be had.
        seed: of intervals and tests.
    """

    suite: Suite
    baseline: str
    found: Mapping[str, DatasetResult]
    unavailable: Mapping[str, str]
    seed: int
    summaries: Mapping[str, Summary] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        made = {one.title: summarise(one.evaluations, self.baseline, seed=self.seed) for one in self.found.values()}
        object.__setattr__(self, "summaries", made)

    @property
    def systems(self) -> tuple[str, ...]:
        """The names of the systems, in the order given."""
        return tuple(next(iter(self.found.values())).evaluations)

    def mean(self, system: str) -> float:
        """The mean over datasets of a system's first measure, each group counted as one."""
        return statistics.fmean(value for _, values in self._counted() for value in [values[system]])

    def means_sheet(self) -> Sheet:
        """Datasets by systems: the first measure of each dataset, groups, and the mean over all."""
        rows = [
            [one.title, one.measure, *(f"{one.mean(system):.4f}" for system in self.systems)]
            for one in self.found.values()
        ]
        counted = list(self._counted())
        rows += [[label, "mean", *_four(values)] for label, values in counted if label not in self.found]
        if len(counted) > 1:
            overall = {system: self.mean(system) for system in self.systems}
            rows.append([f"mean of {len(counted)}", "mean", *_four(overall)])
        said = "Means over all judged queries; a query that a run lacks counts as zero."
        left = f" Left out: {', '.join(map(_short, self.unavailable))}." if self.unavailable else ""
        return Sheet("Effectiveness", ["dataset", "measure", *self.systems], rows, said + left, labels=2)

    def differences_sheet(self, *, exact: bool = False) -> Sheet:
        """Every dataset, system and measure with intervals and tests; `exact`: unrounded, a column for each number."""
        sheets = {
            title: numbers_sheet(summary) if exact else differences_sheet(summary)
            for title, summary in self.summaries.items()
        }
        first = next(iter(sheets.values()))
        rows = [[title, *row] for title, sheet in sheets.items() for row in sheet.rows]
        compared = next(iter(self.summaries.values())).compared
        corrected = f", Holm-corrected over {compared} systems in each dataset and measure" if compared > 1 else ""
        caption = (
            f"Intervals: percentile bootstrap over queries, seed {self.seed}. p: paired randomisation test against "
            f"{self.baseline}; p (t): the paired t-test{corrected}."
        )
        return Sheet(first.title, ["dataset", *first.head], rows, caption, labels=3)

    def costs_sheet(self, *, exact: bool = False) -> Sheet:
        """What the rerankers cost, a query on average, and what that bought."""
        head = ["dataset", "system", "questions", "tokens", "FLOP", "time", "median wait", "95 % within", "99 % within"]
        head += ["RPP", "QPP", "documents cut", "repairs", "from journal"]
        rows = [
            [one.title, system, *_bill(one.evaluations[system], cost, exact)]
            for one in self.found.values()
            for system, cost in one.costs.items()
            if cost.accounts
        ]
        caption = (
            "Means of a query but for the last three columns, which are totals; time is inside the judge, waits are "
            "from submission to ranking while all queries wait together. RPP and QPP: the first measure and queries "
            "per PetaFLOP. Answers from a journal (of a suite that was stopped, or of another system with the same "
            "reranker) are counted with what they had cost when they were given, and no wait is told then. First "
            "stages keep no bill."
        )
        return Sheet("Cost of reranking", head, rows, caption, labels=2)

    @property
    def probabilities(self) -> dict[str, Mapping[str, Reliability]]:
        """dataset -> system -> how good its probabilities are, where there are some."""
        return {one.title: one.probabilities for one in self.found.values() if one.probabilities}

    def calibration_sheet(self, *, exact: bool = False) -> Sheet:
        """The points of the reliability diagram; without rows when no system's scores were calibrated."""
        return reliability_sheet(self.probabilities, exact=exact)

    def robustness_sheet(self, *, exact: bool = False) -> Sheet:
        """What perturbations did; without rows when there were none."""
        found = {one.title: one.robust for one in self.found.values()}
        return robustness_sheet(found, {one.title: one.measure for one in self.found.values()}, self.seed, exact=exact)

    def _counted(self) -> Iterator[tuple[str, Mapping[str, float]]]:
        """What counts as one dataset in the mean over all: (label, system -> mean)."""
        for name, one in self.found.items():
            if self.suite.group_of(name) is None:
                yield name, {system: one.mean(system) for system in self.systems}
        for group, parts in self.suite.groups.items():
            present = [self.found[part] for part in parts if part in self.found]
            if present:
                label = f"{group} (mean of {len(present)} of {len(parts)})"
                yield label, {s: statistics.fmean(one.mean(s) for one in present) for s in self.systems}


def _bill(evaluation: Evaluation, cost: Cost, exact: bool) -> list[str]:
    def number(value: float | None) -> str:
        return ("" if exact else "–") if value is None else repr(value) if exact else si(value).strip()

    def time(value: float | None) -> str:
        return number(value) if exact or value is None else duration(value)

    tokens = cost.a_query("tokens_real", "tokens_padded", "tokens_generated")
    amounts = [cost.a_query("questions"), tokens, cost.a_query("flops")]
    waits = [cost.a_query("seconds"), *(cost.waited(share) for share in (0.5, 0.95, 0.99))]
    totals = [cost.total.get("truncated_documents", 0), cost.total.get("repairs", 0), cost.from_journal]
    bought = _bought(evaluation, cost)
    return [*map(number, amounts), *map(time, waits), *map(number, bought), *(f"{int(total)}" for total in totals)]


def _bought(evaluation: Evaluation, cost: Cost) -> tuple[float | None, float | None]:
    """RPP of the first measure, and QPP; None where the cost of an answer is not known."""
    try:
        found = efficiencies(evaluation, cost.accounts)[0]
    except InputError:
        return None, None
    return found.rpp[evaluation.measures[0]], found.qpp


def _texts(dataset: Dataset, found: Sequence[Change]) -> tuple[dict[str, str], dict[str, str]]:
    """Of all queries, and of the documents that moved, in one pass over the collection."""
    moved = {one.doc_id for change in found for one in change.moved}
    documents = dataset.source.find(moved) if moved else {}
    queries = {query.query_id: query.text for query in dataset.queries}
    return queries, {doc_id: document.full_text for doc_id, document in documents.items()}


def _four(values: Mapping[str, float]) -> list[str]:
    return [f"{value:.4f}" for value in values.values()]


def _short(name: str) -> str:
    """A folder by its own name."""
    return name.rsplit("/", 1)[-1]
