"""The prompts that are known by name: one TOML file each in `templates`; and those of a user's own file."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from rerank import config
from rerank.prompts.prompt import Prompt
from rerank.registry import unknown

__all__ = ["find", "names"]

SHORT = ("system", "user", "plain", "encoder", "decoder")


def names() -> list[str]:
    """The names of the prompts that come with the package, sorted."""
    return sorted(file.name.removesuffix(".toml") for file in _files().iterdir() if file.name.endswith(".toml"))


def find(name: str | Path | Prompt) -> Prompt:
    """A prompt by its name, or from a TOML file of one's own (a path that ends in .toml); one that is made is itself.

    Raises:
        UnknownName: when there is none of that name.
        FileError, ConfigError: when a file cannot be read, or says what a prompt cannot.
    """
    if isinstance(name, Prompt):
        return name
    if str(name).endswith(".toml"):
        return _made(config.table(name), Path(name).stem, str(name))
    return _known(str(name))


@cache
def _known(name: str) -> Prompt:
    if name not in names():
        raise unknown("prompt", name, names())
    file = _files() / f"{name}.toml"
    return _made(config.parse(file.read_text(encoding="utf-8"), file.name), name, file.name)


def _made(values: dict[str, Any], name: str, where: str) -> Prompt:
    """A prompt from a file's table; names in `SHORT` are short for turns of one side each."""
    turns = [{"role": role, "text": values.pop(role)} for role in SHORT if role in values]
    return config.build(Prompt, {"name": name, **values, "turns": [*turns, *values.get("turns", [])]}, where)


def _files() -> Any:
    return resources.files(__package__) / "templates"
