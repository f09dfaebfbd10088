"""Where the time of a workload's own way goes, by kind of operation, beside what its matrix products cost at best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from benchmarks.contest import Contest, Setting, Workload
from benchmarks.machine import gemm_peak, seconds

__all__ = ["Profile", "profiles"]

KINDS = {
    "matrix products": ("mm", "linear", "matmul", "gemm", "convolution", "mkldnn"),
    "attention": ("attention", "softmax", "attn", "rerank_attention"),
    "normalisation": ("norm", "rsqrt"),
    "activation": ("gelu", "silu", "relu", "clamp", "tanh", "erf"),
    "moving data": ("copy", "cat", "index", "gather", "embedding", "contiguous", "clone", "fill", "zero", "stack"),
}  # fmt: skip
"""Kind -> what an operation's name holds; the first that fits counts, attention before products."""

ORDER = ("attention", "matrix products", "normalisation", "activation", "moving data")


@dataclass(frozen=True)
class Profile:
    """One contest.

    Attributes:
        seconds: of a pass, without the profiler.
        parts: kind -> seconds of its operations themselves; "not in torch" is the rest of a pass: tokens, native
            attention, other executors, Python. Biases and activations fused into products count as products.
        floor: seconds that all executed operations would take at the speed of a plain matrix product.
    """

    name: str
    seconds: float
    parts: dict[str, float]
    floor: float

    def lines(self) -> Iterator[str]:
        """A table of it."""
        yield f"{self.name}: {self.seconds:.3f} s a pass, {self.floor:.3f} s at the speed of a plain matrix product"
        for kind, taken in sorted(self.parts.items(), key=lambda part: -part[1]):
            yield f"  {kind:18} {taken:8.3f} s  {taken / max(sum(self.parts.values()), 1e-9):6.1%}"


def profiles(workload: Workload, setting: Setting) -> Iterator[Profile]:
    """One for each contest of a workload; peers are not loaded."""
    for contest in workload.contests(setting):
        yield _profile(contest, setting)


def _profile(contest: Contest, setting: Setting) -> Profile:
    contest.ours(contest.work)
    taken = min(seconds(lambda: contest.ours(contest.work)) for _ in range(3))
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.device == "cuda" else [])]
    everywhere = _ExperimentalConfig(profile_all_threads=True)  # the scheduler works in a thread of its own
    with profile(activities=activities, experimental_config=everywhere) as recorded:
        outcome = contest.ours(contest.work)
    parts: Counter[str] = Counter()
    for event in recorded.key_averages():
        own = event.self_device_time_total if setting.device == "cuda" else event.self_cpu_time_total
        parts[_kind(event.key)] += own / 1e6
    inside = sum(parts.values())
    parts["not in torch"] = max(0.0, taken - inside)
    floor = outcome.amounts.get("flops", 0) / gemm_peak(contest.peak, smoke=setting.smoke)
    return Profile(contest.name, taken, dict(parts), floor)


def _kind(name: str) -> str:
    low = name.lower()
    return next((kind for kind in ORDER if any(part in low for part in KINDS[kind])), "other")
