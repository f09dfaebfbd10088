"""The checkpoints that are known by name: one TOML file each, read on first use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from rerank import config
from rerank.checkpoints.hub import Hub
from rerank.checkpoints.shipped import Shipped
from rerank.checkpoints.split_wheel import SplitWheel
from rerank.checkpoints.wheel import Wheel
from rerank.errors import CheckpointError, ConfigError, UnknownName
from rerank.registry import did_you_mean

__all__ = ["ENTRY_FILE", "Checkpoint", "Located", "Source", "find", "names", "near"]

Source: TypeAlias = Hub | Wheel
SOURCES: Mapping[str, type[Source]] = {"hub": Hub, "wheel": Wheel, "split-wheel": SplitWheel, "shipped": Shipped}

ENTRY_FILE = "rerank.toml"
"""In a folder: how the checkpoint in it is asked, in the words of a file in `rerank/checkpoints`."""

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file in `rerank/checkpoints` says.

    Args:
        name: the file's name without ".toml".
        hub: the id on the Hugging Face hub; empty when the weights are on none, which then need a source. With an
            adapter, that of the model under it, which keeps its own name.
        description: one line for a person who chooses.
        licence: of the weights, as an SPDX id where it has one.
        max_tokens: of query and document together, when the user names no other.
        aliases: other spellings of the hub id.
        judge, algorithm: how the model is asked, and in what order, when the user names no other; an empty judge is
            for weights that rank nothing by themselves.
        prompt: what it is asked by (`rerank list prompts`), for judges that ask by one.
        targets: words whose probability is the answer, where they are not the prompt's own.
        options: of the algorithm and of the judge, where they are not the defaults: a window, a number of documents.
        adapter: a LoRA that is merged into the weights when the user names no other: an id on the hub, by which the
            checkpoint is called, or a folder.
        sources: where the weights come from, tried in this order; the hub alone when empty.
    """

    name: str
    hub: str
    description: str
    licence: str
    max_tokens: int
    aliases: tuple[str, ...] = ()
    judge: str = "cross-encoder"
    algorithm: str = "pointwise"
    prompt: str = ""
    targets: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    adapter: str = ""
    sources: tuple[Source, ...] = ()

    @property
    def repo(self) -> str:
        """What it is called on the hub."""
        return self.adapter or self.hub


@dataclass(frozen=True, slots=True)
class Located:
    """What a name stands for.

    Args:
        name: as messages call it.
        checkpoint: its entry, or None when it has none.
        folder: the local folder, or None when it is fetched.
        sources: where it is fetched from; empty for a local folder.
    """

    name: str
    checkpoint: Checkpoint | None = None
    folder: Path | None = None
    sources: tuple[Source, ...] = ()


def names() -> list[str]:
    """The names of the checkpoints that have a file, sorted."""
    return sorted(_entries())


def find(name: str | Path) -> Located:
    """What a name stands for: an entry's name, hub id or alias; a local folder; or any other hub id, in this order.

    A folder may have an entry of its own, `rerank.toml`.

    A folder that has an entry's name is meant by writing `./name`.

    Raises:
        UnknownName: for anything else, with the nearest name that there is.
        CheckpointError: for a path that is no folder.
    """
    text = str(name)
    if (entry := _spellings().get(text)) is not None:
        return Located(entry.name, entry, sources=entry.sources or (Hub(entry.hub),))
    if text and (folder := Path(text).expanduser()).is_dir():
        return Located(text, _own_entry(folder), folder=folder)
    if HUB_ID.fullmatch(text):
        return Located(text, sources=(Hub(text),))
    if "/" in text or "\\" in text:
        raise CheckpointError(f"there is no folder {text}")
    raise UnknownName(f"no checkpoint is called {text!r}{near(text) or did_you_mean(text, names())}")


def _own_entry(folder: Path) -> Checkpoint | None:
    """What a folder says of itself, as training writes it."""
    path = folder / ENTRY_FILE
    if not path.is_file():
        return None
    return _read(path.read_text(encoding="utf-8"), folder.name, str(path))


def near(text: str) -> str:
    """'; did you mean …?' over all spellings of all entries, or nothing."""
    said = did_you_mean(text, _spellings())
    return said if said.startswith("; did") else ""


def _read(text: str, name: str, where: str) -> Checkpoint:
    values = config.parse(text, where)
    sources = [_source(source, f"{where}: sources[{index}]") for index, source in enumerate(values.pop("sources", []))]
    return config.build(Checkpoint, {"name": name, **values, "sources": sources}, where)


def _source(values: dict[str, Any], where: str) -> Source:
    kind = values.pop("kind", None)
    if kind not in SOURCES:
        raise ConfigError(f"{where}: the kind is {kind!r}; it may be one of {', '.join(SOURCES)}")
    return config.build(SOURCES[kind], values, where)


@cache
def _entries() -> dict[str, Checkpoint]:
    files = [file for file in resources.files(__package__).iterdir() if file.name.endswith(".toml")]
    stems = {file.name.removesuffix(".toml"): file for file in files}
    return {stem: _read(file.read_text(encoding="utf-8"), stem, file.name) for stem, file in stems.items()}


@cache
def _spellings() -> dict[str, Checkpoint]:
    entries = _entries().values()
    return {name: entry for entry in entries for name in (entry.name, entry.repo, *entry.aliases) if name}
