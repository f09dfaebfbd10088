"""What a workload is made of: contests, each of them ours against some peers over the same work.

Work is a sequence, so that a slow peer can be given the first part of it, and every way of doing it takes such a part:
ours gives an `Outcome`, a peer the scores alone, in the order of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["WORKLOADS", "Absent", "Contest", "Outcome", "Peer", "Scores", "Setting", "Workload", "workload"]

Scores = Sequence[float]
T = TypeVar("T")


class Absent(Exception):
    """A peer cannot take part, for the reason given; the row says so."""


@dataclass(frozen=True)
class Outcome:
    """Scores, and what computing them took: amounts under the names of `rerank.cost.UNITS`."""

    scores: Scores
    amounts: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """Another way of doing the same work.

    Args:
        name: as it stands in tables.
        make: loads it and gives the way: (work, batch size) -> scores. An ImportError or `Absent` makes it absent.
        package: the distribution whose version is written down; "" for what is written here.
        batch_sizes: tried on a part of the work; the fastest takes part.
        target: the ratio that we are to reach.
        floor: the lower end of the interval that we are to reach.
        approximate: its scores are not held against the reference's, but their Kendall tau is written down.
    """

    name: str
    make: Callable[[], Callable[[Any, int], Scores]]
    package: str = ""
    batch_sizes: tuple[int, ...] = (8, 16, 32, 64)
    target: float | None = None
    floor: float | None = None
    approximate: bool = False


@dataclass(frozen=True)
class Contest:
    """Ours against peers over the same work.

    Args:
        name: what distinguishes it within the workload: lengths, and what goes in (texts, ids, kept tokens).
        work: a sequence; a prefix of it is a smaller work of the same kind.
        ours: work -> outcome.
        reference: work -> scores, float32 where ours is exact; what ours must agree with before anything is timed.
        tolerance: the largest difference allowed; None when only the order counts.
        tau: the least Kendall tau to the reference, for int8 and bfloat16.
        checked: how much of the work is held against the reference.
        searched: how much of the work peers' batch sizes are tried on.
        peak: which matrix product the executed operations are held against.
        repeats: turns of each, where the run's own number will not do.
    """

    name: str
    work: Sequence[Any]
    ours: Callable[[Any], Outcome]
    reference: Callable[[Any], Scores]
    peers: Sequence[Peer]
    tolerance: float | None = 1e-4
    tau: float | None = None
    checked: int | None = None
    searched: int | None = None
    peak: str = "float32"
    repeats: int | None = None


@dataclass(frozen=True)
class Setting:
    """Where and how large: `smoke` runs everything on tiny shapes, to see that it works."""

    folder: Path
    device: str = "cpu"
    smoke: bool = False
    repeats: int = 7

    def pick(self, full: T, smoke: T) -> T:
        """The one for this size of run."""
        return smoke if self.smoke else full

    @property
    def dtype(self) -> str:
        """float32 on the CPU, bfloat16 on CUDA."""
        return "float32" if self.device == "cpu" else "bfloat16"


@dataclass(frozen=True)
class Workload:
    """A named set of contests; `group` says which command runs it."""

    name: str
    group: str
    title: str
    contests: Callable[[Setting], Iterator[Contest]]


WORKLOADS: dict[str, Workload] = {}


def workload(name: str, group: str, title: str) -> Callable[[Callable[[Setting], Iterator[Contest]]], Workload]:
    """Put a function that gives contests into `WORKLOADS`."""

    def enter(contests: Callable[[Setting], Iterator[Contest]]) -> Workload:
        WORKLOADS[name] = Workload(name, group, title, contests)
        return WORKLOADS[name]

    return enter
