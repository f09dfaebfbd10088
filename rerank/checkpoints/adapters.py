"""LoRA adapters: small weights that are merged into those of another checkpoint."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from rerank.checkpoints.cache import one_line
from rerank.errors import CheckpointError
from rerank.registry import extra_for

__all__ = ["fetch", "has_head", "where"]

CONFIG = "adapter_config.json"
FILES = "adapter_*"


def where(name: str | Path) -> Path | None:
    """The folder of an adapter that is on this machine, or None; nothing is downloaded.

    Args:
        name: a folder, or an id on the hub.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        place = Path(snapshot_download(str(name), local_files_only=True, allow_patterns=FILES))
    except (OSError, ValueError):
        return None
    return place if _is_whole(place) else None


def fetch(name: str | Path) -> Path:
    """The folder of an adapter, downloaded from the hub when it is not here.

    Raises:
        CheckpointError: when peft is not installed, the hub does not give it, or it is no LoRA adapter.
    """
    if find_spec("peft") is None:
        raise CheckpointError(str(extra_for(f"adapter={str(name)!r}", "peft")))
    place = where(name) or _download(str(name))
    if not _is_whole(place):
        raise CheckpointError(f"{place} holds no LoRA adapter: {CONFIG} and adapter_model.* must lie there")
    return place


def has_head(name: str | Path) -> bool:
    """Whether an adapter brings a score head along, so that a causal model under it becomes a classifier.

    Raises:
        CheckpointError: when its config cannot be read.
    """
    place = where(name)
    if place is None or not (path := place / CONFIG).is_file():
        return False
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return config.get("task_type") == "SEQ_CLS" or "score" in (config.get("modules_to_save") or [])
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _download(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download

    from rerank.checkpoints.hub import ANSWER_WITHIN  # which knows folders, which know adapters

    missing = f"cannot get the adapter {name}: there is no folder of that name, and the hub"
    if constants.HF_HUB_OFFLINE:
        raise CheckpointError(f"{missing} was not asked (HF_HUB_OFFLINE is set)")
    try:
        return Path(snapshot_download(name, allow_patterns=FILES, etag_timeout=ANSWER_WITHIN))
    except Exception as error:  # transport errors are of other libraries' kinds, which change with their versions
        raise CheckpointError(f"{missing} does not give it ({type(error).__name__}: {one_line(error)})") from error


def _is_whole(folder: Path) -> bool:
    return bool(list(folder.glob("adapter_model.*"))) and (folder / CONFIG).is_file()
