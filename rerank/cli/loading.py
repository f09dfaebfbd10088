"""Models by name: what can be known before one is loaded, and its download with a bar."""

from __future__ import annotations

from pathlib import Path

from rerank.cli.screen import Screen

__all__ = ["check_model", "fetch_model"]


def check_model(name: str, algorithm: str | None = None) -> None:
    """Refuse what no download or loading could make good.

    Raises:
        UnknownName: when there is no such checkpoint or algorithm.
        CheckpointError: when the checkpoint is on this machine and is no reranker.
    """
    from rerank import checkpoints, registry

    if algorithm is not None and algorithm not in registry.names("algorithm"):
        raise registry.unknown("algorithm", algorithm, registry.names("algorithm"))
    if (folder := checkpoints.where(name)) is not None:
        checkpoints.kind(folder)


def fetch_model(name: str, screen: Screen, *, refresh: bool = False) -> Path:
    """The checkpoint's folder, downloaded when it is not here, or to `refresh` it."""
    from rerank import checkpoints

    if not refresh and (folder := checkpoints.where(name)) is not None:
        return folder
    with screen.progress(f"fetching {name}", "bytes") as on_progress:
        return checkpoints.fetch(name, progress=on_progress, refresh=refresh)
