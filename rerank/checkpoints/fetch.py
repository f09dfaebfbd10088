"""Names into folders with weights: what is cached, else the first source that has it."""

from __future__ import annotations

import logging
from pathlib import Path

from rerank.checkpoints import adapters
from rerank.checkpoints import cache as caches
from rerank.checkpoints.cache import Progress
from rerank.checkpoints.hub import Hub
from rerank.checkpoints.load import Located, Source, find, near
from rerank.errors import CheckpointError

__all__ = ["fetch", "where"]

log = logging.getLogger(__name__)


def where(name: str | Path, *, cache: Path | None = None) -> Path | None:
    """The folder of a checkpoint that is on this machine with its adapter, or None; nothing is downloaded.

    Args:
        name: a checkpoint's name, a hub id or a local folder.
        cache: the folder for what comes from elsewhere than the hub; RERANK_CACHE or the usual place when None.

    Raises:
        UnknownName: when it is none of the three.
    """
    located = find(name)
    if located.folder is not None:
        return located.folder
    if (adapter := _adapter(located)) and adapters.where(adapter) is None:
        return None
    root = cache or caches.folder()
    return next((place for source in located.sources if (place := source.cached(root)) is not None), None)


def fetch(
    name: str | Path, *, cache: Path | None = None, progress: Progress | None = None, refresh: bool = False
) -> Path:
    """A folder with config, tokenizer and weights: the cached one, else from the first source that has it.

    Its adapter, where its file names one, is fetched first, because it is small.

    Args:
        name: a checkpoint's name, a hub id or a local folder.
        cache: the folder for what comes from elsewhere than the hub; RERANK_CACHE or the usual place when None.
        progress: called during a download with the bytes that have come and the bytes there are in all.
        refresh: ask the sources in their order even if the checkpoint is cached: the hub may have come back.

    Raises:
        UnknownName: when no checkpoint has the name.
        CheckpointError: when every source failed, with the reason of each, or the adapter cannot be had.
    """
    if not refresh and (place := where(name, cache=cache)) is not None:
        return place
    located = find(name)
    if located.folder is not None:
        return located.folder
    if adapter := _adapter(located):
        adapters.fetch(adapter)
    return _first(located, cache or caches.folder(), progress)


def _adapter(located: Located) -> str:
    return "" if located.checkpoint is None else located.checkpoint.adapter


def _first(located: Located, root: Path, progress: Progress | None) -> Path:
    reasons = [] if located.checkpoint else [f"there is no folder {located.name}"]
    for source in located.sources:
        try:
            place = source.fetch(root, progress)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        _say(located, source, reasons)
        return place
    hint = near(located.name) if located.checkpoint is None else ""
    raise CheckpointError(f"cannot get {located.name}: {'; '.join(reasons)}{hint}")


def _say(located: Located, source: Source, reasons: list[str]) -> None:
    """One line for the user when the weights are not the hub's own."""
    if not isinstance(source, Hub):
        log.warning("%s", "; ".join([f"{located.name}: {', '.join(reasons) or 'no hub'}", f"weights from {source}"]))
