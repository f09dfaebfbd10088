"""Matrix products whose bits do not depend on where their operands lie in memory.

Intel's MKL, which stands behind torch's products on x86, begins a product of unaligned numbers otherwise than one of
aligned ones on processors that are not Intel's: the last bit of a score then depends on what was allocated before. Its
reproducible mode ends that, at no price that could be measured (88 for 89 GFLOP/s on an AMD EPYC); it is chosen by an
environment variable that MKL reads when it computes for the first time.
"""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MODE", "VARIABLE", "are_reproducible", "ask_for_reproducible"]

VARIABLE = "MKL_CBWR"
MODE = "AVX2,STRICT"

CPU_INFO = Path("/proc/cpuinfo")
LOOKED_AT = 2048
"""Bytes of it: the first processor's vendor stands in its second line."""


def ask_for_reproducible() -> None:
    """Set the variable, where MKL needs it and the user has not set it; no torch is imported for it."""
    if platform.machine() not in ("x86_64", "AMD64") or VARIABLE in os.environ:
        return
    try:
        with CPU_INFO.open(encoding="ascii", errors="replace") as file:
            about = file.read(LOOKED_AT)
    except OSError:  # another system: MKL's own choice is kept, and `are_reproducible` tells
        return
    if "vendor_id" in about and "GenuineIntel" not in about:
        os.environ[VARIABLE] = MODE


@lru_cache(maxsize=1)
def are_reproducible() -> bool:
    """Whether products have the same bits wherever their operands lie, tried on some of shapes that tell."""
    import torch

    numbers = torch.Generator().manual_seed(0)
    for rows, columns in ((3, 131), (32, 1)):
        left, right = torch.randn(rows, 64, generator=numbers), torch.randn(columns, 64, generator=numbers)
        expected = left @ right.T
        if not all(torch.equal(_moved(left, by) @ _moved(right, by).T, expected) for by in (1, 3, 8)):
            return False
    return True


def _moved(matrix: Tensor, by: int) -> Tensor:
    """The same numbers, so many places further in memory."""
    room = matrix.new_empty(matrix.numel() + by)
    moved = room[by:].view(matrix.shape)
    return moved.copy_(matrix)
