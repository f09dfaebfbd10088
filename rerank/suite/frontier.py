"""Effectiveness against cost, and which systems nobody beats in both."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from rerank.io import atomic_write
from rerank.suite.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COSTS", "draw_frontier", "frontier"]

COSTS = {
    "seconds a query": (("seconds",), 1.0),
    "tokens a query": (("tokens_real", "tokens_padded", "tokens_generated"), 1.0),
    "PFLOP a query": (("flops",), 1e15),
}
"""label -> the amounts that are added, and by what they are divided."""

WIDE = 8
"""How many times as dear the dearest system must be for a logarithmic axis."""

_BLUE, _GREY, _INK, _FAINT = "#0072b2", "#9a9a9a", "#222222", "#dddddd"


def frontier(points: dict[str, tuple[float, float]]) -> list[str]:
    """The systems that no other beats: name -> (cost, value); from the cheapest on."""
    kept: list[str] = []
    best = float("-inf")
    for name, (_, value) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if value > best:
            kept.append(name)
            best = value
    return kept


def points(results: Results, label: str) -> dict[str, tuple[float, float]]:
    """system -> (mean cost of a query over datasets, mean value), of systems whose cost is known everywhere."""
    amounts, unit = COSTS[label]
    found = {}
    for system in results.systems:
        costs = [one.costs[system].a_query(*amounts) for one in results.found.values()]
        known = [cost for cost in costs if cost]
        if costs and len(known) == len(costs):
            found[system] = statistics.fmean(known) / unit, results.mean(system)
    return found


def draw_frontier(results: Results, path: Path) -> bool:
    """Draw the mean over datasets against seconds, tokens and PFLOP; False when no system's cost is known."""
    drawn = {label: found for label in COSTS if (found := points(results, label))}
    if not drawn:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(drawn), 4.2), dpi=150, layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(drawn), squeeze=False, sharey=True)[0]
    for axes, (label, found) in zip(panels, drawn.items(), strict=True):
        _draw(axes, label, found, {name: results.mean(name) for name in results.systems if name not in found})
    panels[0].set_ylabel("mean over datasets")
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png")
    return True


def _draw(axes: Axes, label: str, found: dict[str, tuple[float, float]], free: dict[str, float]) -> None:
    best = [found[name] for name in frontier(found)]
    axes.plot([cost for cost, _ in best], [value for _, value in best], color=_BLUE, linewidth=1.2, zorder=1)
    for name, (cost, value) in found.items():
        beaten = (cost, value) not in best
        axes.scatter([cost], [value], color=_GREY if beaten else _BLUE, zorder=2)
        place = (5, -12) if beaten else (5, 5)  # names of neighbours in cost lie on two sides of the line
        axes.annotate(name.replace("$", r"\$"), (cost, value), place, textcoords="offset points", fontsize=8)
    for name, value in free.items():
        axes.axhline(value, color=_GREY, linewidth=1, linestyle=(0, (5, 3)))
        axes.annotate(
            f"{name} (no bill)".replace("$", r"\$"),
            (0.02, value),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=8,
            color=_INK,
        )
    costs = [cost for cost, _ in found.values()]
    if max(costs) > WIDE * min(costs):
        axes.set_xscale("log")
    else:  # a logarithmic axis has no room for its labels within one power of ten
        axes.locator_params(axis="x", nbins=4)
    axes.margins(0.25)
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
