"""What a process does about faults of memory, kept as it was while a library puts its own in its place.

Ray installs handlers when it is begun and resets them to the system's defaults when it ends. A Java machine in the same
process, such as Lucene's, reads null through its handler of SIGSEGV in the ordinary course of work: without it, the
process dies without a word.
"""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["kept_handlers"]

FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)

STRUCT = 1024
"""Bytes: more than a `struct sigaction` has anywhere."""


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Handlers of faults are the same after the block as before it, those that C code installed too."""
    libc = ctypes.CDLL(None)
    before = {fault: ctypes.create_string_buffer(STRUCT) for fault in FAULTS}
    for fault, kept in before.items():
        libc.sigaction(int(fault), None, kept)
    try:
        yield
    finally:
        for fault, kept in before.items():
            libc.sigaction(int(fault), kept, None)
