"""The OpenMP runtime that torch has loaded: native kernels use its threads, never a second runtime's."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rerank.kernels.native.build import Unbuildable

__all__ = ["one_thread_here", "runtime"]

NAMES = ("libgomp", "libiomp5", "libomp")  # all have the entry that GNU's compilers call


def runtime() -> int:
    """The address of GOMP_parallel in the runtime that this process has loaded, torch's own first.

    Raises:
        Unbuildable: when there is none.
    """
    for loaded in _runtimes():
        return _address(loaded)
    raise Unbuildable("this torch has no OpenMP runtime whose threads native kernels could use")


def one_thread_here() -> None:
    """Let torch use one thread for whatever the calling thread computes from now on; other threads keep theirs.

    torch's own switch is for the whole process. Without an OpenMP runtime nothing happens.
    """
    import torch

    torch.get_num_threads()  # sets what is changed below, when a thread first asks
    for loaded in _runtimes():
        loaded.omp_set_num_threads(1)
    if (blas := _blas()) is not None:  # has a number of its own once somebody has called torch's switch
        blas.MKL_Set_Num_Threads_Local(1)


def _runtimes() -> Iterator[ctypes.CDLL]:
    for path in sorted(_loaded(), key=lambda path: "torch" not in str(path)):
        with suppress(AttributeError, OSError):
            loaded = ctypes.CDLL(str(path))
            _address(loaded)
            yield loaded


def _blas() -> ctypes.CDLL | None:
    """torch's own library, where MKL is built into it."""
    for path in _mapped():
        if path.name.startswith("libtorch_cpu"):
            loaded = ctypes.CDLL(str(path))
            return loaded if hasattr(loaded, "MKL_Set_Num_Threads_Local") else None
    return None


def _loaded() -> set[Path]:
    """OpenMP runtimes among the files that are mapped into this process."""
    return {path for path in _mapped() if path.name.startswith(NAMES)}


def _mapped() -> set[Path]:
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    return {Path(parts[5]) for line in lines if len(parts := line.split(maxsplit=5)) == 6}


def _address(loaded: ctypes.CDLL) -> int:
    address = ctypes.cast(loaded.GOMP_parallel, ctypes.c_void_p).value
    assert address is not None
    return address
