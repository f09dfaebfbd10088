"""Rerankers that sentence-transformers saves in modules: a backbone, a pooling, and a head of small modules.

Version 6 writes such folders (https://sbert.net/docs/cross_encoder/usage/custom_models.html): `modules.json` lists the
modules in order; the backbone lies at the top, every other module in a folder of its own with a `config.json` and,
where it has weights, a `model.safetensors` or `pytorch_model.bin`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank.errors import CheckpointError

__all__ = ["Module", "labels_of", "module_files", "modules_of"]

HEAD = ("Dense", "LayerNorm", "Dropout")
WITH_WEIGHTS = ("Dense", "LayerNorm")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SCORES = "scores"


@dataclass(frozen=True, slots=True)
class Module:
    """One of them.

    Args:
        kind: the last part of its class's name.
        folder: where its config and weights lie.
        config: what is written there.
    """

    kind: str
    folder: Path
    config: Mapping[str, Any]

    @property
    def weights(self) -> Path:
        """The file with its weights.

        Raises:
            CheckpointError: when there is none.
        """
        found = next((self.folder / name for name in WEIGHTS if (self.folder / name).is_file()), None)
        if found is None:
            raise CheckpointError(f"{self.folder} has no weights; one of {', '.join(WEIGHTS)} must lie there")
        return found


def modules_of(folder: Path) -> tuple[Module, ...] | None:
    """The modules of a reranker in this layout; None when the folder has another layout or gives no scores.

    Raises:
        CheckpointError: when it is one, and has modules that are not known here or cannot be read.
    """
    listed = _read(folder / "modules.json") if (folder / "modules.json").is_file() else []
    if not isinstance(listed, list) or len(listed) < 2:
        return None  # a Transformer alone is an ordinary classifier
    modules = tuple(_module(folder, entry) for entry in listed)
    last = modules[-1].config
    if (last.get("module_output_name") or last.get("module_input_name")) != SCORES:
        return None
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= set(HEAD):
        raise CheckpointError(
            f"{folder} is made of {', '.join(kinds)}; a reranker in modules is Transformer, Pooling, and then any of "
            f"{', '.join(HEAD)}"
        )
    return modules


def labels_of(modules: tuple[Module, ...]) -> int:
    """How many scores the last module gives."""
    return int(modules[-1].config.get("out_features", 0))


def module_files(folder: Path) -> list[Path]:
    """The files beyond the backbone's that decide what it says; none in another layout."""
    modules = modules_of(folder)
    if modules is None:
        return []
    weights = [module.weights for module in modules[1:] if module.kind in WITH_WEIGHTS]
    configs = [place for module in modules[1:] if (place := module.folder / "config.json").is_file()]
    return [folder / "modules.json", *configs, *weights]


def _module(folder: Path, entry: Any) -> Module:
    try:
        kind, path = str(entry["type"]).rpartition(".")[2], str(entry["path"])
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{folder / 'modules.json'}: an entry has no type and path: {entry!r}") from error
    if ".." in Path(path).parts or Path(path).is_absolute():
        raise CheckpointError(f"{folder / 'modules.json'}: {path!r} lies outside the checkpoint")
    place = folder / path
    config = place / "config.json"
    read = _read(config) if path and config.is_file() else {}
    return Module(kind, place, read if isinstance(read, dict) else {})


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
