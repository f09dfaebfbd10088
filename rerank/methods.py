"""The methods that have a name: an algorithm, a judge and a prompt that belong together; one TOML file each in
`rerank/catalog/methods`.

A method says how a checkpoint is asked, and no more: `Reranker("prp-heapsort", model="…")`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from rerank import config
from rerank.errors import ConfigError
from rerank.registry import unknown

__all__ = ["Method", "find", "known", "names"]


@dataclass(frozen=True, slots=True)
class Method:
    """What a file in `rerank/catalog/methods` says.

    Args:
        name: the file's name without ".toml".
        description: one line for a person who chooses.
        source: the paper or the repository that it comes from.
        wants: kinds of checkpoint that it can ask (`rerank.checkpoints.kind`).
        algorithm: which question comes next (`rerank list algorithms`).
        judge: who answers (`rerank list judges`).
        prompt: what the model is asked by; empty where it reads none.
        options: of the algorithm and of the judge, where they are not the defaults.
        also: other names that it is known by.

    Raises:
        ConfigError: when it wants nothing, or has no source.
    """

    name: str
    description: str
    source: str
    wants: tuple[str, ...]
    algorithm: str
    judge: str
    prompt: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.wants or "://" not in self.source:
            raise ConfigError("a method wants at least one kind of checkpoint, and its source is an address")


def names() -> list[str]:
    """The names of all methods, sorted; other names of theirs are left out."""
    return sorted(path.stem for path in _shelf().glob("*.toml"))


def find(name: str) -> Method:
    """A method by its name, or by another one that it is known by.

    Raises:
        UnknownName: when there is none of that name.
    """
    if name not in _spellings():
        raise unknown("method", name, _spellings())
    return _spellings()[name]


def known(name: object) -> bool:
    """Whether a method has the name."""
    return isinstance(name, str) and name in _spellings()


@cache
def _spellings() -> dict[str, Method]:
    read = [_read(path) for path in sorted(_shelf().glob("*.toml"))]
    return {name: method for method in read for name in (method.name, *method.also)}


def _read(path: Path) -> Method:
    return config.build(Method, {"name": path.stem, **config.table(path)}, path.name)


def _shelf() -> Path:
    return Path(str(files("rerank"))) / "catalog" / "methods"
