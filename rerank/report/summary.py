"""The numbers of a report, before anybody draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rerank.errors import InputError
from rerank.evaluate import Comparison, Evaluation, Interval, compare, holm, interval
from rerank.registry import unknown
from rerank.significance import LEVEL, RESAMPLES, SEED

__all__ = ["Cell", "Summary", "check", "summarise"]

FEWEST = 2
"""Queries that a paired test needs; with fewer the numbers stand without one."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One system under one measure.

    The comparison, whose p-values are Holm-corrected, is None for the baseline, and for all where there is one query.
    """

    mean: float
    interval: Interval
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Several systems side by side.

    Args:
        cells: system -> measure -> numbers, in the order given.
        baseline: what the others are compared with; None: nothing was compared.
        queries: how many were averaged over.
        missing: system -> judged queries that its run lacks, counted as zero.
        unjudged: system -> queries of its run without judgment, left out.
        level, resamples, seed: of the intervals and tests.
    """

    cells: Mapping[str, Mapping[str, Cell]]
    baseline: str | None
    queries: int
    missing: Mapping[str, int]
    unjudged: Mapping[str, int]
    level: float
    resamples: int
    seed: int

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures, in the order evaluated."""
        return tuple(next(iter(self.cells.values())))

    @property
    def compared(self) -> int:
        """How many systems stand against the baseline."""
        return 0 if self.baseline is None else len(self.cells) - 1

    @property
    def caption(self) -> str:
        """What a reader must know to trust the table, in sentences."""
        return " ".join([*self._how(), *self._left_out()])

    def as_dict(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        return asdict(self)

    def _how(self) -> list[str]:
        drawn = f"{self.resamples:,} resamples, seed {self.seed}"
        said = [f"{_count(self.queries, 'query', 'queries')}; intervals: percentile bootstrap over queries, {drawn}."]
        if self.compared and self.queries < FEWEST:
            return [*said, "One query: no test."]
        if self.compared:
            said.append(f"p: paired randomisation test against {self.baseline}, the paired t-test beside it.")
        if self.compared > 1:
            said.append(f"Both are Holm-corrected over {self.compared} systems, each measure by itself.")
        return said

    def _left_out(self) -> list[str]:
        pairs = [
            (self.missing, "Queries missing from a run, counted as zero"),
            (self.unjudged, "Queries without judgments, left out"),
        ]
        said = [(label, ", ".join(f"{name} {n}" for name, n in counts.items() if n)) for counts, label in pairs]
        return [f"{label}: {names}." for label, names in said if names]


def summarise(
    evaluations: Mapping[str, Evaluation],
    baseline: str | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Summary:
    """Means, intervals and, where there is a baseline and more than one query, paired comparisons of several systems.

    Args:
        evaluations: system -> its evaluation, by the same judgments and measures.
        baseline: the system that the others are compared with.
        level: of the intervals.
        resamples: of intervals and tests.
        seed: of both.

    Raises:
        UnknownName: when no system is called like the baseline.
        InputError: when the evaluations do not fit together.
    """
    check(evaluations, baseline)
    options: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    first = next(iter(evaluations.values()))
    columns = {measure: _column(evaluations, measure, baseline, options) for measure in first.measures}
    return Summary(
        cells={name: {measure: columns[measure][name] for measure in columns} for name in evaluations},
        baseline=baseline,
        queries=len(first.query_ids),
        missing={name: len(evaluation.missing) for name, evaluation in evaluations.items()},
        unjudged={name: len(evaluation.unjudged) for name, evaluation in evaluations.items()},
        **options,
    )


def check(evaluations: Mapping[str, Evaluation], baseline: str | None) -> None:
    """Refuse evaluations that cannot stand side by side.

    Raises:
        UnknownName: when no system is called like the baseline.
        InputError: when there is none, or their measures or queries differ.
    """
    if not evaluations:
        raise InputError("there is no evaluation to report")
    if baseline is not None and baseline not in evaluations:
        raise unknown("evaluated system", baseline, evaluations)
    first_name, first = next(iter(evaluations.items()))
    for name, evaluation in evaluations.items():
        if evaluation.measures != first.measures:
            raise InputError(
                f"{name!r} was evaluated by {', '.join(evaluation.measures)}, {first_name!r} by "
                f"{', '.join(first.measures)}; evaluate all by the same measures"
            )
        if evaluation.query_ids != first.query_ids:
            raise InputError(
                f"{name!r} was evaluated on {len(evaluation.query_ids)} queries, {first_name!r} on "
                f"{len(first.query_ids)}, and they are not the same; evaluate all with the same qrels"
            )


def _column(
    evaluations: Mapping[str, Evaluation], measure: str, baseline: str | None, options: dict[str, Any]
) -> dict[str, Cell]:
    tested = baseline is not None and len(evaluations[baseline].query_ids) >= FEWEST
    others = [name for name in evaluations if tested and name != baseline]
    comparisons = {name: compare(evaluations[name], evaluations[baseline or ""], measure, **options) for name in others}
    corrected = _corrected(comparisons)
    return {
        name: Cell(
            mean=evaluation.means[measure],
            interval=interval(evaluation.values(measure).values(), **options),
            comparison=corrected.get(name),
        )
        for name, evaluation in evaluations.items()
    }


def _corrected(comparisons: Mapping[str, Comparison]) -> dict[str, Comparison]:
    randomisation = holm({name: comparison.p_randomisation for name, comparison in comparisons.items()})
    t_test = holm({name: comparison.p_t for name, comparison in comparisons.items()})
    return {
        name: replace(comparison, p_randomisation=randomisation[name], p_t=t_test[name])
        for name, comparison in comparisons.items()
    }


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
