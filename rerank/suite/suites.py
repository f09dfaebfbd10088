"""Which datasets a suite has: a TOML file in `rerank/catalog/suites`, or a folder of dataset folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from rerank import config
from rerank.errors import ConfigError, FileError
from rerank.registry import unknown

__all__ = ["Suite", "known"]


@dataclass(frozen=True)
class Suite:
    """Datasets that are reported together.

    Args:
        description: one line.
        datasets: their names or, of a folder, their folders.
        source: where the selection comes from.
        groups: name -> datasets whose mean counts as one dataset in the mean over all.
        name: what it is called; of a folder, its path.

    Raises:
        ConfigError: when there is no dataset, or a group names one that is not of the suite.
    """

    description: str
    datasets: tuple[str, ...]
    source: str = ""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ConfigError("a suite has at least one dataset")
        for group, parts in self.groups.items():
            if strangers := [part for part in parts if part not in self.datasets]:
                raise ConfigError(f"the group {group!r} names {strangers[0]!r}, which is no dataset of the suite")

    @classmethod
    def load(cls, name: str) -> Suite:
        """The suite of a name, or all dataset folders in a folder (or the folder itself, where it is one).

        Raises:
            UnknownName: when there is neither.
            FileError: when the folder holds no dataset.
        """
        if name in known():
            return replace(config.read(cls, _shelf() / f"{name}.toml"), name=name)
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise unknown("suite, and no folder,", name, known())
        here = sorted({path.parent for depth in ("", "*/") for path in folder.glob(f"{depth}corpus.jsonl*")})
        if not here:
            raise FileError(f"{folder} holds no dataset: a folder with corpus.jsonl, queries.jsonl and qrels/")
        said = f"every dataset folder in {folder.resolve().name}"
        return cls(said, tuple(str(path.resolve()) for path in here), name=str(folder.resolve()))

    @property
    def titles(self) -> tuple[str, ...]:
        """What the datasets are called: their names or, of a folder, their folders' names."""
        return tuple(Path(dataset).name if Path(dataset).is_absolute() else dataset for dataset in self.datasets)

    def group_of(self, dataset: str) -> str | None:
        """The group that a dataset belongs to; None when it stands for itself."""
        return next((group for group, parts in self.groups.items() if dataset in parts), None)


@lru_cache(maxsize=1)
def known() -> tuple[str, ...]:
    """The names of the suites that ship with the package, sorted."""
    return tuple(sorted(path.stem for path in _shelf().glob("*.toml")))


def _shelf() -> Path:
    return Path(str(files("rerank"))) / "catalog" / "suites"
