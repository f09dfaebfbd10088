"""From C to a shared library: compiled once for a machine, kept in the cache, by a compiler that need not be there."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from rerank.checkpoints import cache

__all__ = ["Unbuildable", "built"]

HERE = Path(__file__).parent
SOURCES = ("attention.c", "add_norm.c")
HEADERS = ("threads.h", "vectors.h")
COMMON = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-fno-math-errno")
INSTRUCTIONS = {
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
    "avx2": ("-mavx2", "-mfma"),
}
PATIENCE = 120
"""Seconds that a compilation may take, or that another process's is waited for."""


class Unbuildable(Exception):
    """This machine cannot have native kernels; the message says why."""


@contextmanager
def built(instructions: str) -> Iterator[Path]:
    """The library for "avx512" or "avx2", compiled if it is not in the cache. Load it within the block.

    Raises:
        Unbuildable: on another system or processor, without a compiler, or when that fails.
    """
    compiler = _compiler(instructions)
    command = [*compiler, *COMMON, *INSTRUCTIONS[instructions]]
    name = f"kernels-{instructions}-{_key(command, _run([*compiler, '--version']))}.so"
    try:
        kept = _kept(name, command)
    except OSError:  # no cache can be written: the library lives as long as this process
        with tempfile.TemporaryDirectory() as folder:
            yield _compiled(command, Path(folder) / name)
    else:
        yield kept


def _kept(name: str, command: list[str]) -> Path:
    folder = cache.folder() / "native"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / name
    if not place.exists():
        with FileLock(place.with_suffix(".lock"), timeout=PATIENCE):
            return place if place.exists() else _compiled(command, place)
    return place


def _compiler(instructions: str) -> list[str]:
    machine = f"{platform.system()} on {platform.machine()}"
    if machine != "Linux on x86_64":
        raise Unbuildable(f"there are native kernels for Linux on x86_64, and this is {machine}")
    if instructions not in INSTRUCTIONS:
        raise Unbuildable(f"there are native kernels for {' and '.join(INSTRUCTIONS)}, and this CPU has {instructions}")
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise Unbuildable(f"there is no C compiler {compiler[0]!r}: install gcc or clang, or name one in CC")
    return compiler


def _key(command: list[str], version: bytes) -> str:
    """What the library depends on: sources, compiler and flags."""
    sources = [(HERE / name).read_bytes() for name in (*SOURCES, *HEADERS)]
    return hashlib.sha256(b"\0".join([*sources, " ".join(command).encode(), version])).hexdigest()[:16]


def _compiled(command: list[str], place: Path) -> Path:
    """Compile to `place`, which holds all of the library or nothing."""
    unfinished = place.with_suffix(f".{os.getpid()}")
    try:
        _run([*command, "-o", str(unfinished), *(str(HERE / name) for name in SOURCES), "-lm"])
        os.replace(unfinished, place)
    finally:
        unfinished.unlink(missing_ok=True)
    return place


def _run(command: list[str]) -> bytes:
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE).stdout
    except subprocess.CalledProcessError as error:
        said = cache.one_line(error.stderr.decode(errors="replace"))
        raise Unbuildable(f"{command[0]!r} does not compile the native kernels: {said}") from None
    except subprocess.TimeoutExpired:
        raise Unbuildable(f"{command[0]!r} took more than {PATIENCE} s") from None
