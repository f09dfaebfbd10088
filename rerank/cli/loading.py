"""Models by name: what can be known before one is loaded, and its download with a bar."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.cli.screen import Screen

if TYPE_CHECKING:
    from rerank.rerankers.recipe import Recipe

__all__ = ["check_reranker", "fetch_model", "fetch_reranker"]


def check_reranker(name: str, arguments: Mapping[str, Any]) -> Recipe:
    """What a reranker will be made of; refuse what no download or loading could make good.

    Args:
        name: a checkpoint, or a method with its checkpoint among the arguments.
        arguments: of `rerank.Reranker`.

    Raises:
        UnknownName: when there is no such checkpoint, method, algorithm or judge.
        CheckpointError: when the checkpoint is on this machine and is no reranker.
        InputError: when they, or the options, do not fit together.
    """
    from rerank.rerankers.recipe import recipe_of

    return recipe_of(name, arguments, fetch=False)


def fetch_reranker(name: str, arguments: Mapping[str, Any], screen: Screen) -> None:
    """Have a reranker's checkpoint here, and check what it alone can tell; a hosted model stays where it is.

    Arguments and errors as of `check_reranker`.
    """
    if check_reranker(name, arguments).hosted:
        return
    fetch_model(str(arguments.get("model") or name), screen)
    check_reranker(name, arguments)


def fetch_model(name: str, screen: Screen, *, refresh: bool = False) -> Path:
    """The checkpoint's folder, downloaded when it is not here, or to `refresh` it."""
    from rerank import checkpoints

    if not refresh and (folder := checkpoints.where(name)) is not None:
        return folder
    with screen.progress(f"fetching {name}", "bytes") as on_progress:
        return checkpoints.fetch(name, progress=on_progress, refresh=refresh)
