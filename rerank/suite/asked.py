"""What a suite is asked to do, checked before any of it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rerank.datasets import Dataset
from rerank.errors import ConfigError, InputError
from rerank.perturb import Perturbation
from rerank.pipeline import Pipeline, check_cutoff
from rerank.registry import unknown
from rerank.suite.suites import Suite

__all__ = ["Asked", "Systems", "Tables"]

Tables: TypeAlias = Sequence[Mapping[str, Any]]
"""The `[[stage]]` tables of a pipeline."""

Systems: TypeAlias = Mapping[str, Tables]
"""name -> the `[[stage]]` tables of its pipeline."""


@dataclass(frozen=True)
class Asked:
    """Which systems over which datasets, and how they are evaluated.

    Args:
        suite: of which datasets.
        systems: name -> `[[stage]]` tables; the first stage is a retriever.
        baseline: the system that the others are compared with; the first when empty.
        measures: by ir-measures name; each dataset's own when empty.
        split: which judgments; each dataset's own when None.
        cutoffs: how many documents first stages hand on, in place of what their tables say: dataset -> number, and
            under "" for all others.
        perturbations: what is done to queries, lists and documents, one at a time, to see what becomes of each system.
        seed: of intervals, tests and perturbations.

    Raises:
        InputError: when there is no system, a pipeline is none, or a cutoff is below 1.
        ConfigError: when a first stage is no retriever.
        UnknownName: when no system is called like the baseline, or no dataset as a cutoff says.
    """

    suite: Suite
    systems: Systems
    baseline: str = ""
    measures: tuple[str, ...] = ()
    split: str | None = None
    cutoffs: Mapping[str, int] = field(default_factory=dict)
    perturbations: tuple[Perturbation, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.systems:
            raise InputError("a suite needs at least one pipeline")
        if self.baseline and self.baseline not in self.systems:
            raise InputError(f"the baseline {self.baseline!r} is none of the systems {', '.join(self.systems)}")
        object.__setattr__(self, "baseline", self.baseline or next(iter(self.systems)))
        any_dataset = Dataset("any", Dataset.load("noveleval").source)  # whatever wants one is content with any
        for name, tables in self.systems.items():
            Pipeline.check(tables, any_dataset, where=name)
            if "retriever" not in tables[0]:
                raise ConfigError(f"{name}: the first stage is no retriever; a suite retrieves and reranks")
        for dataset, cutoff in self.cutoffs.items():
            if dataset and dataset not in self.suite.titles:
                raise unknown("dataset of the suite", dataset, self.suite.titles)
            check_cutoff(dataset or "every first stage", cutoff)

    def tables(self, system: str, dataset: str) -> Tables:
        """A system's stages over a dataset, the first with the cutoff that holds there."""
        first, *others = self.systems[system]
        cutoff = self.cutoffs.get(dataset, self.cutoffs.get(""))
        return [first if cutoff is None else {**first, "cutoff": cutoff}, *others]

    def record(self) -> dict[str, Any]:
        """What the folder keeps of it, so that nothing else is mixed into it."""
        return {
            "suite": self.suite.name,
            "split": self.split,
            "cutoffs": dict(self.cutoffs),
            "datasets": list(self.suite.datasets),
            "systems": dict(self.systems),
            "baseline": self.baseline,
            "perturbations": [kind.name for kind in self.perturbations],
            "seed": self.seed,
        }
