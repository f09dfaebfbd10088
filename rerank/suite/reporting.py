"""The report of a suite: Markdown, one HTML file that needs no other, and every table as CSV and LaTeX."""

from __future__ import annotations

import base64
import html
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from rerank.report import Sheet, chart, draw_reliability
from rerank.report.tables import escaped
from rerank.suite.frontier import draw_frontier
from rerank.suite.place import Place
from rerank.suite.results import Results

__all__ = ["write_report"]

PACKAGES = (
    "rerank-toolkit", "torch", "transformers", "tokenizers", "bm25s", "PyStemmer", "ir-datasets", "ir-measures",
    "numpy", "scipy", "matplotlib",
)  # fmt: skip
"""What decides over the numbers."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1400px; margin: 2em auto; padding: 0 1em; }
h2 { margin-top: 2em; border-bottom: 1px solid #ddd; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5em 0; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: .25em .7em; border-bottom: 1px solid #ddd; vertical-align: top; }
th { text-align: left; } th.number { text-align: right; } .number { text-align: right; white-space: nowrap; }
.name { white-space: nowrap; }
p.caption, p.from { color: #555; font-size: 13px; } img { max-width: 100%; }
"""


@dataclass(frozen=True)
class Part:
    """One thing that the report shows: a table or a figure, and the files that it was made from."""

    title: str
    sheet: Sheet | None
    figure: str | None
    sources: tuple[str, ...]


def write_report(results: Results, place: Place) -> None:
    """Write report.md, report.html, tables, figures and versions.json.

    Args:
        results: what `evaluate_suite` gave.
        place: the folder that it wrote.

    Raises:
        MissingExtra: when matplotlib is not installed.
        FileError: when a file cannot be written.
    """
    place.write_json(
        "versions.json", {"python": platform.python_version(), "machine": platform.machine(), **_versions()}
    )
    parts = list(_parts(results, place))
    head = f"{_title(results)}: {', '.join(results.systems)}"
    place.write("report.md", text=_markdown(head, results, parts))
    place.write("report.html", text=_html(head, results, parts, place))


def _parts(results: Results, place: Place) -> Iterator[Part]:
    measures = tuple(f"measures/{_file(one.title)}.csv" for one in results.found.values())
    means, differences, costs = results.means_sheet(), results.differences_sheet(), results.costs_sheet()
    yield Part(means.title, means, None, (*_saved(place, "means", means, means), *measures))
    if draw_frontier(results, place.path("figures", "frontier.png")):
        yield Part("Effectiveness against cost", None, "figures/frontier.png", ("tables/costs.csv", "tables/means.csv"))
    exact = results.differences_sheet(exact=True)
    yield Part(differences.title, differences, None, (*_saved(place, "differences", differences, exact), *measures))
    if costs.rows:
        saved = _saved(place, "costs", costs, results.costs_sheet(exact=True))
        yield Part(costs.title, costs, None, (*saved, *(f"ledgers/{_file(o.title)}/" for o in results.found.values())))
    if results.probabilities:
        draw_reliability(results.probabilities, place.path("figures", "calibration.png"))
        sheet = results.calibration_sheet()
        runs = tuple(f"runs/{_file(title)}/" for title in results.probabilities)
        saved = _saved(place, "calibration", sheet, results.calibration_sheet(exact=True))
        yield Part("Probabilities against what happened", None, "figures/calibration.png", (*saved, *runs))
        yield Part(sheet.title, sheet, None, (*saved, *runs))
    robust = results.robustness_sheet()
    if robust.rows:
        saved = _saved(place, "robustness", robust, results.robustness_sheet(exact=True))
        yield Part(robust.title, robust, None, (*saved, "perturbed/", *measures))
    for one in results.found.values():
        name, sources = _file(one.title), (f"measures/{_file(one.title)}.csv", f"runs/{_file(one.title)}/")
        chart(one.evaluations, one.measure, place.path("figures", f"{name}.png"), results.baseline, seed=results.seed)
        yield Part(f"{one.title}: means, and gains query by query", None, f"figures/{name}.png", sources)
        for number, sheet in enumerate(one.moved, start=1):
            saved = _saved(place, f"moved-{name}-{number}", sheet, sheet)
            yield Part(f"{one.title}: {sheet.title}", sheet, None, (*saved, *sources))


def _saved(place: Place, name: str, sheet: Sheet, exact: Sheet) -> tuple[str, ...]:
    place.write("tables", f"{name}.csv", text=exact.csv())
    place.write("tables", f"{name}.tex", text=sheet.latex())
    return f"tables/{name}.csv", f"tables/{name}.tex"


def _markdown(head: str, results: Results, parts: list[Part]) -> str:
    said = [f"# {escaped(head)}", "", escaped(results.suite.description), ""]
    said += [f"- left out: {escaped(name)}: {escaped(reason)}" for name, reason in results.unavailable.items()]
    for part in parts:
        said += ["", f"## {escaped(part.title)}", ""]
        said += [part.sheet.markdown() if part.sheet else f"![{escaped(part.title)}]({part.figure})", ""]
        said.append(f"From: {', '.join(f'[{source}]({source})' for source in part.sources)}")
    said += ["", "## How it was made", "", *(f"- {text}: [{file}]({file})" for text, file in ABOUT.items()), ""]
    return "\n".join(said)


ABOUT = {
    "What was asked for, and the baseline": "suite.json",
    "Versions": "versions.json",
    "Every pipeline with all its options": "pipelines/",
    "What the first stages found": "first/",
}


def _html(head: str, results: Results, parts: list[Part], place: Place) -> str:
    left = "".join(
        f"<li><b>{html.escape(name)}</b>: {html.escape(reason)}</li>" for name, reason in results.unavailable.items()
    )
    gaps = f"<h2>Left out</h2><ul>{left}</ul>" if left else ""
    shown = "\n".join(_section(part, place) for part in parts)
    about = "".join(f"<li>{text}: {_link(file)}</li>" for text, file in ABOUT.items())
    return (
        f"<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n<title>{html.escape(head)}</title>\n"
        f"<style>{STYLE}</style>\n<h1>{html.escape(head)}</h1>\n<p>{html.escape(results.suite.description)}</p>\n"
        f"{gaps}\n{shown}\n<h2>How it was made</h2>\n<ul>{about}</ul>\n</html>\n"
    )


def _section(part: Part, place: Place) -> str:
    if part.sheet is not None:
        body = f"<div class='scroll'>{part.sheet.html()}</div>"
    else:
        data = base64.b64encode(place.path(*str(part.figure).split("/")).read_bytes()).decode("ascii")
        body = f"<img alt='{html.escape(part.title, quote=True)}' src='data:image/png;base64,{data}'>"
    sources = ", ".join([*([_link(part.figure)] if part.figure else []), *map(_link, part.sources)])
    return f"<h2>{html.escape(part.title)}</h2>\n{body}\n<p class='from'>From: {sources}</p>"


def _link(file: str) -> str:
    shown = html.escape(file, quote=True)
    return f"<a href='{shown}'>{shown}</a>"


def _title(results: Results) -> str:
    return results.suite.name.rstrip("/").rsplit("/", 1)[-1]


def _file(title: str) -> str:
    return title.replace("/", "-")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
