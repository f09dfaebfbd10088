"""Every workload, by name."""

from __future__ import annotations

from importlib import import_module

from benchmarks.contest import WORKLOADS

__all__ = ["load"]

MODULES = ("cpu", "training", "t5", "llm", "encoders", "sorting", "set_encoder", "kernels")


def load() -> None:
    """Import what enters workloads into `benchmarks.contest.WORKLOADS`."""
    for module in MODULES:
        import_module(f"benchmarks.{module}")
    ordered = sorted(WORKLOADS.items())
    WORKLOADS.clear()
    WORKLOADS.update(ordered)
