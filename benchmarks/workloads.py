"""Every workload, in the order in which they are listed."""

from __future__ import annotations

from importlib import import_module

__all__ = ["load"]

MODULES = ("cpu", "t5", "llm", "encoders", "sorting")


def load() -> None:
    """Import what enters workloads into `benchmarks.contest.WORKLOADS`."""
    for module in MODULES:
        import_module(f"benchmarks.{module}")
