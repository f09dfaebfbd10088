"""The curves of a run: loss and learning rate by step, and measures where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank.io.atomic import atomic_write
from rerank.registry import extra_for

__all__ = ["draw_curves", "series", "shown_as"]

BLUE, ORANGE = "#0072b2", "#e69f00"


def series(log: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """name -> (step, value), from a trainer's log: "loss", "learning_rate", measures without their "eval_", rewards."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in log:
        for key, value in entry.items():
            measured = key.startswith(("eval_", "rewards/")) and not key.endswith("/std")
            if measured or key in ("loss", "learning_rate", "reward"):
                found.setdefault(shown_as(key), []).append((int(entry["step"]), float(value)))
    return found


def shown_as(key: str) -> str:
    """What a trainer logs, as people read it: nDCG@10 for "eval_nDCG@10", "reward: form" for "rewards/form/mean"."""
    if key.startswith("rewards/"):
        return f"reward: {key.split('/')[1]}"
    return key.removeprefix("eval_")


def draw_curves(log: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw them as a PNG, written whole or not at all.

    Args:
        log: of transformers' trainer.
        path: of the picture.

    Raises:
        MissingExtra: when matplotlib is not installed.
        FileError: when it cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise extra_for("a chart of a training run", "matplotlib") from error
    lines = series(log)
    measures = [name for name in lines if name not in ("loss", "learning_rate")]
    figure = Figure(figsize=(6.0 * (1 + bool(measures)), 4.0), dpi=150, layout="constrained", facecolor="white")
    panels = figure.subplots(1, 1 + bool(measures), squeeze=False)[0]
    panels[0].plot(*zip(*lines.get("loss", [(0, 0.0)]), strict=True), color=BLUE)
    panels[0].set(xlabel="step", ylabel="training loss")
    rate = panels[0].twinx()
    rate.plot(*zip(*lines.get("learning_rate", [(0, 0.0)]), strict=True), color=ORANGE, linewidth=0.8)
    rate.set(ylabel="learning rate")
    for name in measures:
        panels[1].plot(*zip(*lines[name], strict=True), marker="o", markersize=3, label=name)
    if measures:
        panels[1].set(xlabel="step")
        panels[1].legend(frameon=False)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png")
