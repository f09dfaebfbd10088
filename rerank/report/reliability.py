"""Probabilities against what happened: the reliability diagram, and its points as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rerank.calibration import BINS, Bin, Examples, Quality, quality, reliability
from rerank.io.atomic import atomic_write
from rerank.registry import extra_for
from rerank.report.sheet import Sheet
from rerank.types import Qrels, Scores

__all__ = ["Reliability", "draw_reliability", "reliability_of", "reliability_sheet"]

Reliability = tuple[Quality, Sequence[Bin]]
"""How good probabilities are, and the points of their curve."""

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_INK, _FAINT = "#222222", "#dddddd"


def reliability_of(qrels: Qrels, run: Scores) -> Reliability:
    """Of a run whose scores are probabilities; what it did not score stands below 0 in a file, and is left out.

    Raises:
        InputError: when no scored document is of a judged query.
    """
    scored = {
        query_id: {doc_id: score for doc_id, score in ranked.items() if 0 <= score <= 1}
        for query_id, ranked in run.items()
    }
    examples = Examples.of(qrels, scored)
    return quality(examples.scores, examples.labels), reliability(examples.scores, examples.labels)


def reliability_sheet(found: Mapping[str, Mapping[str, Reliability]], *, exact: bool = False) -> Sheet:
    """A row for each point: dataset by system by bin.

    Args:
        found: dataset -> system -> its reliability.
        exact: unrounded.
    """
    head = ["dataset", "system", "ECE", "Brier", "from", "to", "documents", "mean probability", "share relevant"]

    def shown(value: float) -> str:
        return repr(value) if exact else f"{value:.4f}"

    rows = [
        [title, name, shown(good.ece), shown(good.brier), f"{one.low:.1f}", f"{one.high:.1f}", str(one.examples),
         shown(one.probability), shown(one.relevant)]
        for title, systems in found.items()
        for name, (good, bins) in systems.items()
        for one in bins
    ]  # fmt: skip
    caption = (
        f"Scores as probabilities, in {BINS} bins of equal width; ECE and Brier score are of the whole run, 0 is best. "
        "Documents without a judgment count as irrelevant."
    )
    return Sheet("Calibration", head, rows, caption, labels=2)


def draw_reliability(found: Mapping[str, Mapping[str, Reliability]], path: str | Path) -> None:
    """Draw a diagram for each dataset as one PNG: on the diagonal, what is said is what happens.

    Raises:
        MissingExtra: when matplotlib is not installed.
        FileError: when the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise extra_for("a reliability diagram", "matplotlib") from error
    figure = Figure(figsize=(4.4 * len(found), 4.4), dpi=150, layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    for axes, (title, systems) in zip(panels, found.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.9, linestyle=(0, (5, 3)))
        for number, (name, (good, bins)) in enumerate(systems.items()):
            label = f"{name}: ECE {good.ece:.3f}".replace("$", r"\$")
            colour = _COLOURS[number % len(_COLOURS)]
            points = [one.probability for one in bins], [one.relevant for one in bins]
            axes.plot(*points, marker="o", markersize=4, color=colour, label=label)
        axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=12, fontweight="bold", color=_INK)
        axes.set_xlabel("mean probability")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=_FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", frameon=False, fontsize=8)
    panels[0].set_ylabel("share relevant")
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png")
