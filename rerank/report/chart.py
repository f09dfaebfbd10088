"""The picture: means with intervals on the left, what each query gained on the right."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.evaluate import Comparison, Evaluation, compare, interval
from rerank.io.atomic import atomic_write
from rerank.registry import extra_for
from rerank.report.summary import check
from rerank.significance import SEED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["chart"]

# Okabe and Ito's palette, told apart by readers of every colour vision; the baseline is grey
_BASELINE, _COLOURS = "#9a9a9a", ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_INK, _FAINT = "#222222", "#dddddd"
_NAMED_QUERIES = 30  # more ids than this do not fit under the bars
_LABELLED_BARS = 16  # more numbers than this do not fit above the bars
_LINE = 52  # characters that fit the width of a panel


def chart(
    evaluations: Mapping[str, Evaluation],
    measure: str,
    path: str | Path,
    baseline: str | None = None,
    *,
    seed: int = SEED,
) -> None:
    """Draw systems side by side as a PNG.

    Left: each system's mean under every measure it was evaluated by, with its bootstrap interval. Right, when there is
    more than one system: what each query gained under `measure` by the best of the others over the baseline.

    Args:
        evaluations: system -> its evaluation, by the same judgments and measures.
        measure: the one whose gains are shown.
        path: where the PNG goes; written whole or not at all.
        baseline: the system to gain over; the first when left out.
        seed: of the intervals and the test.

    Raises:
        MissingExtra: when matplotlib is not installed.
        UnknownName: when the measure was not evaluated or no system is called like the baseline.
        InputError: when the evaluations do not fit together.
        FileError: when the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ModuleNotFoundError as error:
        raise extra_for("a chart", "matplotlib") from error
    check(evaluations, baseline)
    baseline = baseline if baseline is not None else next(iter(evaluations))
    evaluations[baseline].values(measure)
    others = [name for name in evaluations if name != baseline]
    layout = ConstrainedLayoutEngine(w_pad=0.16, h_pad=0.14, wspace=0.03)
    figure = Figure(figsize=(13.0 if others else 7.0, 5.4), dpi=150, layout=layout, facecolor="white")
    panels = figure.subplots(1, 2 if others else 1, squeeze=False, width_ratios=[1.0, 1.0] if others else None)[0]
    _draw_means(panels[0], evaluations, baseline, seed)
    if others:
        best = max(others, key=lambda name: evaluations[name].means[measure])
        _draw_gains(panels[1], evaluations, best, baseline, measure, seed)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png")


def _draw_means(axes: Axes, evaluations: Mapping[str, Evaluation], baseline: str, seed: int) -> None:
    measures = next(iter(evaluations.values())).measures
    colours = _colours(evaluations, baseline)
    width = 0.8 / len(evaluations)
    for index, (name, evaluation) in enumerate(evaluations.items()):
        means = [evaluation.means[measure] for measure in measures]
        spans = [interval(evaluation.values(measure).values(), seed=seed) for measure in measures]
        places = [number + width * (index - (len(evaluations) - 1) / 2) for number in range(len(measures))]
        middles = [(span.low + span.high) / 2 for span in spans]  # a skewed interval need not hold the mean
        halves = [(span.high - span.low) / 2 for span in spans]
        axes.bar(places, means, width * 0.9, label=_plain(name), color=colours[name])
        axes.errorbar(places, middles, yerr=halves, fmt="none", ecolor=_INK, elinewidth=1.1, capsize=3)
        if len(measures) * len(evaluations) <= _LABELLED_BARS:
            for place, mean, span in zip(places, means, spans, strict=True):
                axes.annotate(
                    f"{mean:.3f}", (place, span.high), (0, 4), textcoords="offset points", ha="center", fontsize=8
                )
    axes.set_xticks(range(len(measures)), [_in_two_lines(_plain(measure)) for measure in measures])
    axes.set_ylabel("mean over queries")
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    queries = len(next(iter(evaluations.values())).query_ids)
    _finish(axes, f"Means over {queries:,} queries, 95 % bootstrap intervals")
    fit = max(1, _LINE // (max(map(len, evaluations)) + 8))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=min(fit, len(evaluations)), frameon=False)


def _draw_gains(
    axes: Axes, evaluations: Mapping[str, Evaluation], name: str, baseline: str, measure: str, seed: int
) -> None:
    ours, theirs = evaluations[name].values(measure), evaluations[baseline].values(measure)
    gains = sorted(((ours[query_id] - theirs[query_id], query_id) for query_id in ours), reverse=True)
    heights = [gain for gain, _ in gains]
    colours = _colours(evaluations, baseline)  # each bar in the colour of who does better
    axes.bar(range(len(gains)), heights, 0.85, color=[colours[name if gain > 0 else baseline] for gain in heights])
    axes.axhline(0, color=_INK, linewidth=0.9)
    axes.set_ylabel(_plain(f"gain in {measure}"))
    if len(gains) <= _NAMED_QUERIES:
        axes.set_xticks(range(len(gains)), [_plain(query_id) for _, query_id in gains], rotation=60, ha="right")
        axes.tick_params(axis="x", labelsize=8)
    else:
        axes.set_xticks([])
    axes.set_xlabel("queries, from the largest gain to the largest loss")
    _finish(axes, _plain(textwrap.fill(f"{name} over {baseline}, query by query", _LINE)))
    if len(gains) > 1:
        found = compare(evaluations[name], evaluations[baseline], measure, seed=seed)
        _draw_verdict(axes, found, "p" if len(evaluations) == 2 else "uncorrected p")


def _draw_verdict(axes: Axes, found: Comparison, label: str) -> None:
    axes.axhline(found.difference, color=_INK, linewidth=1.2, linestyle=(0, (5, 3)))
    p = "< 0.0001" if found.p_randomisation < 0.0001 else f"= {found.p_randomisation:.4f}"
    verdict = f"mean {found.difference:+.3f} (dashed), {label} {p}"
    axes.text(
        0.98,
        0.97,
        f"{verdict}\n{found.wins} better, {found.ties} equal, {found.losses} worse",
        transform=axes.transAxes,
        ha="right",
        va="top",
        linespacing=1.5,
        color=_INK,
    )


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=_INK, pad=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def _colours(names: Mapping[str, Any], baseline: str) -> dict[str, str]:
    others = [name for name in names if name != baseline]
    if not others:
        return {baseline: _COLOURS[0]}
    return {baseline: _BASELINE} | {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(others)}


def _plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def _in_two_lines(measure: str) -> str:
    """`RR(rel=2)@10` would run into its neighbours."""
    name, at, cutoff = measure.rpartition("@")
    return f"{name}\n{at}{cutoff}" if "(" in name else measure
