"""From contests to rows: first that the scores are right, then who is how fast, in turns."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.contest import Absent, Contest, Outcome, Peer, Scores, Setting, Workload
from benchmarks.machine import commit, gemm_peak, machine, seconds, version

__all__ = ["RESULTS", "Refused", "compare", "contest_rows", "ratio_of", "run"]

RESULTS = Path(__file__).parent / "results"
SLOW = 5.0  # seconds a pass beyond which a peer gets a part of the work, three times
SLOW_REPEATS = 3
Row = dict[str, Any]


class Refused(Exception):
    """Our scores are not what they should be: there is nothing to report."""


@dataclass(frozen=True)
class Rival:
    """A peer that loaded, agrees, and has found its batch size; what a pass over all work will take, in seconds."""

    peer: Peer
    way: Callable[[Any, int], Scores]
    batch_size: int
    tau: float
    expected: float


def run(workload: Workload, setting: Setting, *, results: Path | None = RESULTS) -> Iterator[Row]:
    """Every row of a workload, each written to its file as soon as it is known.

    Raises:
        Refused: when ours disagrees with the reference; rows of earlier contests stay.
    """
    for contest in workload.contests(setting):
        for row in contest_rows(contest, setting):
            whole = {"workload": workload.name, **row, **_about()}
            if results is not None:
                _append(results / f"{workload.name}.jsonl", whole)
            yield whole


def contest_rows(contest: Contest, setting: Setting) -> Iterator[Row]:
    """One row for each peer of a contest."""
    checked = contest.work[: contest.checked]
    expected = contest.reference(checked)
    ours = contest.ours(checked)
    agreement = compare(ours.scores, expected)
    _refuse(contest, agreement)
    peak = gemm_peak(contest.peak, smoke=setting.smoke)
    rivals = []
    for peer in contest.peers:
        try:
            rivals.append(_prepared(peer, contest, checked, expected))
        except (Absent, ImportError) as error:
            yield {"contest": contest.name, "peer": peer.name, "absent": _one_line(error)}
    for row in _timed(contest, rivals, setting):
        yield {"contest": contest.name, **row, "agreement": agreement, "gemm_peak": round(peak / 1e9, 1)} | _rates(
            row, contest, peak
        )


def compare(ours: Scores, expected: Scores) -> dict[str, float]:
    """The largest difference, and Kendall's tau (1 when there is nothing to order)."""
    first, second = np.asarray(ours, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if first.shape != second.shape or not np.isfinite(first).all():
        raise Refused(f"{first.shape} scores where {second.shape} were expected, or some that are not finite")
    tau = 1.0 if len(first) < 2 else float(stats.kendalltau(first, second).statistic)
    return {"largest_difference": float(np.abs(first - second).max()), "tau": 1.0 if math.isnan(tau) else tau}


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, list[float]]:
    """The median of the ratios of neighbouring turns, above 1 when ours is faster, and its 95 % bootstrap interval."""
    ratios = np.array([their / our for our, their in zip(ours, theirs, strict=True)])
    middle = float(np.median(ratios))
    if (ratios == ratios[0]).all():
        return middle, [middle, middle]
    spread = stats.bootstrap((ratios,), np.median, method="percentile", rng=np.random.default_rng(0))
    low, high = spread.confidence_interval
    return middle, [float(low), float(high)]


def _refuse(contest: Contest, agreement: dict[str, float]) -> None:
    far, tau = agreement["largest_difference"], agreement["tau"]
    if contest.tolerance is not None and far > contest.tolerance:
        raise Refused(f"{contest.name}: scores differ by {far:.1e}, more than {contest.tolerance:.0e}")
    if contest.tau is not None and tau < contest.tau:
        raise Refused(f"{contest.name}: Kendall's tau to float32 is {tau:.4f}, below {contest.tau}")


def _prepared(peer: Peer, contest: Contest, checked: Any, expected: Scores) -> Rival:
    """Load a peer, see that it computes the same, find its batch size."""
    try:
        way = peer.make()
        agreement = compare(way(checked, peer.batch_sizes[0]), expected)
    except (Absent, ImportError):
        raise
    except Exception as error:  # whatever a peer raises, the others still take part
        raise Absent(f"{type(error).__name__}: {_one_line(error)}") from error
    far = agreement["largest_difference"]
    if not peer.approximate and contest.tolerance is not None and far > contest.tolerance:
        raise Absent(f"its scores differ by {far:.1e}, so it does other work")
    part = contest.work[: contest.searched]
    taken = {size: seconds(partial(way, part, size)) for size in peer.batch_sizes}
    best = min(taken, key=lambda size: taken[size])
    return Rival(peer, way, best, agreement["tau"], taken[best] * len(contest.work) / len(part))


def _timed(contest: Contest, rivals: Sequence[Rival], setting: Setting) -> Iterator[Row]:
    """Ours and all quick rivals take turns over the whole work; slow ones over a part of it, afterwards."""
    contest.ours(contest.work)  # what is laid out or compiled at first use is not timed
    whole = contest.searched is None or contest.searched >= len(contest.work)
    passes = {rival.peer.name: rival.expected if whole else _pass(rival, contest.work) for rival in rivals}
    quick = [rival for rival in rivals if passes[rival.peer.name] <= SLOW]
    repeats = setting.repeats if setting.smoke else contest.repeats or setting.repeats
    if quick:
        yield from _turns(contest, quick, contest.work, repeats, 1.0)
    for rival in rivals:
        if rival not in quick:
            count = max(1, round(len(contest.work) * SLOW / passes[rival.peer.name]))
            yield from _turns(contest, [rival], contest.work[:count], SLOW_REPEATS, count / len(contest.work))


def _pass(rival: Rival, work: Any) -> float:
    """Seconds of a whole pass; where it would take far too long, what a part of it lets expect."""
    return rival.expected if rival.expected > 4 * SLOW else seconds(partial(rival.way, work, rival.batch_size))


def _turns(contest: Contest, rivals: Sequence[Rival], work: Any, repeats: int, fraction: float) -> Iterator[Row]:
    """Each rival right after a pass of ours; the ratio is that of the two neighbours."""
    outcomes: list[Outcome] = []
    ours: dict[str, list[float]] = {rival.peer.name: [] for rival in rivals}
    theirs: dict[str, list[float]] = {rival.peer.name: [] for rival in rivals}
    for turn in range(repeats):
        for rival in rivals[turn % len(rivals) :] + rivals[: turn % len(rivals)]:
            ours[rival.peer.name].append(seconds(lambda: outcomes.append(contest.ours(work))))
            theirs[rival.peer.name].append(seconds(partial(rival.way, work, rival.batch_size)))
    for rival in rivals:
        name = rival.peer.name
        yield _row(rival, outcomes[-1], ours[name], theirs[name]) | {"repeats": repeats, "fraction": round(fraction, 3)}


def _row(rival: Rival, outcome: Outcome, ours: list[float], theirs: list[float]) -> Row:
    middle, interval = ratio_of(ours, theirs)
    peer = rival.peer
    reached = None
    if peer.target is not None or peer.floor is not None:
        reached = middle >= (peer.target or 0) and interval[0] >= (peer.floor or 0)
    return {
        "peer": peer.name,
        "peer_version": version(peer.package),
        "ratio": round(middle, 3),
        "interval": [round(end, 3) for end in interval],
        "target": peer.target,
        "floor": peer.floor,
        "reached": reached,
        "batch_size": rival.batch_size,
        "peer_tau": round(rival.tau, 4),
        "seconds": {"ours": round(statistics.median(ours), 8), "peer": round(statistics.median(theirs), 8)},
        "p95_seconds": {"ours": _p95(ours), "peer": _p95(theirs)},
        "best_seconds": {"ours": round(min(ours), 5), "peer": round(min(theirs), 5)},
        "amounts": {name: round(amount, 4) for name, amount in outcome.amounts.items() if name != "seconds"},
        "notes": dict(outcome.notes),
    }


def _p95(seconds: Sequence[float]) -> float:
    return round(float(np.percentile(seconds, 95)), 5)


def _rates(row: Row, contest: Contest, peak: float) -> Row:
    """What follows from seconds and amounts: pairs and operations a second, and the share of the peak."""
    own = row["seconds"]["ours"]
    rates: Row = {"items_per_second": round(len(contest.work) * row["fraction"] / own, 2)}
    if flops := row["amounts"].get("flops"):
        rates |= {"gflop_per_second": round(flops / own / 1e9, 1), "hfu": round(flops / own / peak, 3)}
    real, padded = row["amounts"].get("tokens_real", 0), row["amounts"].get("tokens_padded", 0)
    if real:
        rates |= {"tokens_per_second": round(real / own), "waste": round(padded / (real + padded), 4)}
    return rates


def _about() -> Row:
    return {"commit": commit(), "machine": machine(), "date": datetime.now(UTC).isoformat(timespec="seconds")}


def _append(path: Path, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
