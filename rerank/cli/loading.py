"""Models by name: what can be known before one is loaded, and its download with a bar."""

from __future__ import annotations

from pathlib import Path

from rerank.cli.screen import Screen

__all__ = ["check_model", "fetch_model"]


def check_model(name: str, algorithm: str | None = None, judge: str | None = None, prompt: str | None = None) -> None:
    """Refuse what no download or loading could make good.

    Raises:
        UnknownName: when there is no such checkpoint, algorithm or judge.
        CheckpointError: when the checkpoint is on this machine and is no reranker.
        InputError: when the algorithm asks what the judge does not answer.
    """
    from rerank import checkpoints, registry
    from rerank.judges.choosing import answered, check_fit, chosen_judge

    asking = None if algorithm is None else registry.load("algorithm", algorithm)
    folder = checkpoints.where(name)
    entry = checkpoints.find(name).checkpoint
    if entry is not None and judge is None and prompt is None:
        judge, prompt = entry.judge, entry.prompt or None
    if folder is not None and not judge:
        judge = chosen_judge(folder, prompt)
    if asking is not None and judge:
        kind = registry.load("judge", judge)
        check_fit(asking, answered(kind, prompt), kind.__name__)


def fetch_model(name: str, screen: Screen, *, refresh: bool = False) -> Path:
    """The checkpoint's folder, downloaded when it is not here, or to `refresh` it."""
    from rerank import checkpoints

    if not refresh and (folder := checkpoints.where(name)) is not None:
        return folder
    with screen.progress(f"fetching {name}", "bytes") as on_progress:
        return checkpoints.fetch(name, progress=on_progress, refresh=refresh)
