"""What was measured, on what: commit, processor, versions, load, and the speed of a plain matrix product."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

__all__ = ["commit", "gemm_peak", "machine", "seconds", "version"]

SHAPES = {"float32": (2048, 1536, 384), "int8": (2048, 1536, 384), "bfloat16": (8192, 8192, 8192)}
"""Rows, inner and outer width of the product that stands for the hardware's limit: M × K × N."""


def commit() -> str:
    """The commit that was measured, with + when files have changed since."""
    here = Path(__file__).parent
    name = _git(here, "rev-parse", "--short", "HEAD") or "unknown"
    dirty = _git(here, "status", "--porcelain", "--", "../rerank", ".", ":!results")
    return name + "+" if dirty else name


def machine() -> dict[str, Any]:
    """What it runs on, and how busy that was just now."""
    about = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }
    if torch.cuda.is_available():
        about |= {"gpu": torch.cuda.get_device_name(), "triton": version("triton")}
    return about


def version(package: str) -> str:
    """Of an installed distribution; "" for none."""
    try:
        return importlib.metadata.version(package) if package else ""
    except importlib.metadata.PackageNotFoundError:
        return ""


def gemm_peak(kind: str, *, smoke: bool = False) -> float:
    """Operations a second of the best of several matrix products: bfloat16 on CUDA, float32 or int8 on the CPU."""
    rows, inner, outer = (64, 64, 64) if smoke else SHAPES[kind]
    work = _product(kind, rows, inner, outer)
    best = min(seconds(work) for _ in range(3 if smoke else 30))
    return 2 * rows * inner * outer / best


def _product(kind: str, rows: int, inner: int, outer: int) -> Any:
    if kind == "int8":
        left = torch.randint(-127, 127, (rows, inner), dtype=torch.int8)
        right = torch.randint(-127, 127, (inner, outer), dtype=torch.int8)
        return lambda: torch._int_mm(left, right)
    device = "cuda" if kind == "bfloat16" and torch.cuda.is_available() else "cpu"
    first, second = (torch.randn(*shape, device=device, dtype=getattr(torch, kind)) for shape in
                     ((rows, inner), (inner, outer)))  # fmt: skip
    return lambda: torch.mm(first, second)


def seconds(work: Any) -> float:
    """How long it takes, the GPU's part included."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _git(folder: Path, *words: str) -> str:
    try:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
