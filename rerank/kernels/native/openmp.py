"""The OpenMP runtime that torch has loaded: native kernels use its threads, never a second runtime's."""

from __future__ import annotations

import ctypes
from pathlib import Path

from rerank.kernels.native.build import Unbuildable

__all__ = ["runtime"]

NAMES = ("libgomp", "libiomp5", "libomp")  # all have the entry that GNU's compilers call


def runtime() -> int:
    """The address of GOMP_parallel in the runtime that this process has loaded, torch's own first.

    Raises:
        Unbuildable: when there is none.
    """
    for path in sorted(_loaded(), key=lambda path: "torch" not in str(path)):
        try:
            return _address(ctypes.CDLL(str(path)))
        except (AttributeError, OSError):
            continue
    raise Unbuildable("this torch has no OpenMP runtime whose threads native kernels could use")


def _loaded() -> set[Path]:
    """OpenMP runtimes among the files that are mapped into this process."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    paths = {Path(parts[5]) for line in lines if len(parts := line.split(maxsplit=5)) == 6}
    return {path for path in paths if path.name.startswith(NAMES)}


def _address(loaded: ctypes.CDLL) -> int:
    address = ctypes.cast(loaded.GOMP_parallel, ctypes.c_void_p).value
    assert address is not None
    return address
