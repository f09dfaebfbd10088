"""What becomes of rankings when queries, lists or documents are changed on purpose."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rerank.evaluate import Comparison, Evaluation, compare, holm, order
from rerank.report import Sheet
from rerank.report.differences import p_value
from rerank.suite.perturbed import Change
from rerank.types import Scores

__all__ = ["Robustness", "corrected", "robustness", "robustness_sheet"]

Attackers = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Robustness:
    """What a perturbation did to one system on one dataset.

    Args:
        system, kind: which, and by which perturbation.
        before, after: the means of the first measure.
        comparison: of after with before; None where there is one query.
        changed: queries for which something was changed.
        tau: Kendall's τ between the two rankings, over the documents in both, a mean over queries; None where no
            query has two of them that are in both.
        moved: ranks that a document in both moved, up or down: a mean over documents, then over queries; None where
            there is none.
        attackers: the mean rank of the documents that attack, before and after; None where none does.
    """

    system: str
    kind: str
    before: float
    after: float
    comparison: Comparison | None
    changed: int
    tau: float | None
    moved: float | None
    attackers: Attackers | None


def robustness(
    system: str,
    kind: str,
    evaluations: tuple[Evaluation, Evaluation],
    runs: tuple[Scores, Scores],
    changes: Sequence[Change],
    seed: int,
) -> Robustness:
    """A run under a perturbation against the run as it is.

    Args:
        system, kind: their names.
        evaluations, runs: before and after.
        changes: what was changed.
        seed: of interval and test.
    """
    measure = evaluations[0].measures[0]
    tested = len(evaluations[0].query_ids) > 1
    ranks = [tuple(_ranks(run, query_id) for run in runs) for query_id in runs[0]]
    taus = [tau for before, after in ranks if (tau := _tau(before, after)) is not None]
    moved = [statistics.fmean(steps) for before, after in ranks if (steps := _steps(before, after))]
    before, after = (evaluation.means[measure] for evaluation in evaluations)
    return Robustness(
        system,
        kind,
        before,
        after,
        compare(evaluations[1], evaluations[0], measure, seed=seed) if tested else None,
        sum(change.changed for change in changes),
        statistics.fmean(taus) if taus else None,
        statistics.fmean(moved) if moved else None,
        _attackers(runs, changes),
    )


def corrected(found: Sequence[Robustness]) -> list[Robustness]:
    """With Holm's correction over perturbations, both tests."""
    tested = {one.kind: one.comparison for one in found if one.comparison is not None}
    randomisation = holm({kind: comparison.p_randomisation for kind, comparison in tested.items()})
    t_test = holm({kind: comparison.p_t for kind, comparison in tested.items()})
    return [
        one
        if one.comparison is None
        else replace(
            one,
            comparison=replace(one.comparison, p_randomisation=randomisation[one.kind], p_t=t_test[one.kind]),
        )
        for one in found
    ]


def robustness_sheet(
    found: Mapping[str, Sequence[Robustness]], measures: Mapping[str, str], seed: int, *, exact: bool = False
) -> Sheet:
    """Dataset by system by perturbation.

    Args:
        found: dataset -> what was measured there.
        measures: dataset -> by what.
        seed: of everything.
        exact: unrounded, a column for each number.
    """
    head = ["dataset", "measure", "system", "perturbation", "changed", "before", "after", "change"]
    head += ["low", "high"] if exact else ["interval"]
    head += ["p", "p (t)", "Kendall's τ", "ranks moved"]
    head += ["attackers before", "attackers after"] if exact else ["rank of attackers"]
    rows = [
        [title, measures[title], one.system, one.kind, str(one.changed), *(_exact(one) if exact else _short(one))]
        for title, several in found.items()
        for one in several
    ]
    caption = (
        f"Seed {seed}. changed: queries for which something was changed. p: paired randomisation test of after with "
        "before; p (t): the paired t-test; both Holm-corrected over the perturbations of each system and dataset. τ "
        "and ranks moved: over the documents in both rankings. Attackers are documents that are not relevant, one in "
        "each list: their mean rank before and after. Lists are changed behind the first stage, so that a first stage "
        "alone has no such rows."
    )
    return Sheet("Robustness", head, rows, caption, labels=4)


def _ranks(run: Scores, query_id: str) -> dict[str, int]:
    ranked = run.get(query_id)
    return {doc_id: rank for rank, doc_id in enumerate(order(query_id, ranked), start=1)} if ranked else {}


def _tau(before: Mapping[str, int], after: Mapping[str, int]) -> float | None:
    from scipy.stats import kendalltau

    both = [doc_id for doc_id in before if doc_id in after]
    if len(both) < 2:
        return None
    return float(kendalltau([before[doc_id] for doc_id in both], [after[doc_id] for doc_id in both]).statistic)


def _steps(before: Mapping[str, int], after: Mapping[str, int]) -> list[int]:
    return [abs(after[doc_id] - rank) for doc_id, rank in before.items() if doc_id in after]


def _attackers(runs: tuple[Scores, Scores], changes: Sequence[Change]) -> Attackers | None:
    """Of those that are in both runs: a stage that keeps a few may have dropped one."""
    places = [
        [_ranks(run, change.query_id).get(change.attacker) for run in runs]
        for change in changes
        if change.attacker is not None
    ]
    pairs = [(before, after) for before, after in places if before is not None and after is not None]
    return (statistics.fmean(b for b, _ in pairs), statistics.fmean(a for _, a in pairs)) if pairs else None


def _short(one: Robustness) -> list[str]:
    found = one.comparison
    return [
        f"{one.before:.4f}",
        f"{one.after:.4f}",
        f"{one.after - one.before:+.4f}",
        "–" if found is None else f"{found.interval.low:+.3f} to {found.interval.high:+.3f}",
        *(["–", "–"] if found is None else [p_value(found.p_randomisation), p_value(found.p_t)]),
        "–" if one.tau is None else f"{one.tau:.3f}",
        "–" if one.moved is None else f"{one.moved:.2f}",
        "–" if one.attackers is None else f"{one.attackers[0]:.1f} → {one.attackers[1]:.1f}",
    ]


def _exact(one: Robustness) -> list[str]:
    found = one.comparison
    tested: list[Any] = [None] * 5
    if found is not None:
        tested = [found.difference, found.interval.low, found.interval.high, found.p_randomisation, found.p_t]
    attackers = one.attackers or (None, None)
    values = [one.before, one.after, *tested, one.tau, one.moved, *attackers]
    return ["" if value is None else repr(value) for value in values]
