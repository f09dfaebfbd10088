"""Kernels in C for x86 CPUs, compiled by the machine's own compiler when they are first used, and loaded by ctypes.

Without a compiler, on another processor or system, or with RERANK_NATIVE=0, there is no library: ops are then computed
in torch, which is slower and right as well. `status()` says which it is, and why.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from rerank.kernels.native.build import Unbuildable, built
from rerank.kernels.native.openmp import runtime

__all__ = ["Library", "library", "load", "status", "takes"]


@dataclass(frozen=True)
class Library:
    """The compiled kernels.

    Args:
        functions: as ctypes sees them.
        parallel: the address of the GOMP_parallel of the OpenMP runtime that torch uses.
        instructions: "avx512" or "avx2".
    """

    functions: ctypes.CDLL
    parallel: int
    instructions: str

    def run(self, function: str, arguments: ctypes.Structure) -> int:
        """Call a kernel on as many threads as torch uses."""
        threads = ctypes.c_uint(torch.get_num_threads())
        return int(getattr(self.functions, function)(ctypes.byref(arguments), ctypes.c_void_p(self.parallel), threads))


def library() -> Library | None:
    """The kernels of this machine, or None when there are none; the first call may compile them, for some seconds."""
    return _found(os.environ.get("RERANK_NATIVE", ""))[0]


def takes(*tensors: Tensor) -> bool:
    """Whether native kernels can take these: float32 on the CPU, no gradient, no tracing, a library there."""
    return (
        all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
        and not torch.compiler.is_compiling()
        and library() is not None
    )


def status() -> str:
    """ "avx512" or "avx2", or why there are no native kernels."""
    return _found(os.environ.get("RERANK_NATIVE", ""))[1]


@lru_cache
def _found(asked: str) -> tuple[Library | None, str]:
    if asked == "0":
        return None, "switched off by RERANK_NATIVE=0"
    instructions = torch.backends.cpu.get_cpu_capability().lower()
    try:
        return load(instructions), instructions
    except Unbuildable as reason:
        return None, str(reason)


@lru_cache
def load(instructions: str) -> Library:
    """The kernels for "avx512" or "avx2".

    Raises:
        Unbuildable: when this machine cannot have them.
    """
    with built(instructions) as path:
        parallel = runtime()
        try:
            functions = ctypes.CDLL(str(path))
        except OSError as error:  # a cache on a disk where nothing may be executed
            raise Unbuildable(f"{path} cannot be loaded: {error}") from None
    return Library(functions, parallel, instructions)
