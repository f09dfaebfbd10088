"""docs/reproductions.md: the rows and what was measured of them, written from the files of both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from reproductions import row as rows
from reproductions.measured import Measured, published_first, share, verdict
from reproductions.row import Figure, Row
from rerank import config
from rerank.io import atomic_write

__all__ = ["PAGE", "RESULTS", "published", "read", "record", "stale", "write"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reproductions.md"
RESULTS = ROOT / "benchmarks" / "results" / "reproductions.jsonl"
BEGIN, END = "<!-- written by scripts/reproduce.py page -->", "<!-- end of what is written -->"


def published(one: Row, *, linked: bool = False) -> str:
    """All figures of a row in one line; `linked` leads to where those stand that are not where the row's others are."""
    sources = dict.fromkeys(each.source for each in one.figure)
    parts = {source: ", ".join(_figure(each) for each in one.figure if each.source == source) for source in sources}
    return "; ".join(f"[{said}]({source})" if linked and source else said for source, said in parts.items())


def _figure(each: Figure) -> str:
    names, measure = each.collections, "" if each.measure == "nDCG@10" else f" {each.measure}"
    where = "+".join(names) if len(names) < 3 else f"mean of {len(names)} of BEIR's"
    return f"{where} {share(each.value)}{measure}"


def read() -> list[Measured]:
    """What was measured and recorded, in the order of its rows."""
    if not RESULTS.exists():
        return []
    lines = RESULTS.read_text(encoding="utf-8").splitlines()
    return [config.build(Measured, json.loads(line), f"{RESULTS.name}:{at}") for at, line in enumerate(lines, start=1)]


def record(measured: Sequence[Measured]) -> None:
    """Write results down, in place of those of the same thing, and the page anew."""
    kept = {_same(one): one for one in [*read(), *measured]}
    with atomic_write(RESULTS) as file:
        for one in sorted(kept.values(), key=_same):
            file.write(json.dumps(asdict(one)) + "\n")
    write()


def _same(one: Measured) -> tuple[object, ...]:
    return one.row, one.collections, one.measure, one.depth, one.queries, one.weights


def write() -> None:
    """Put the tables into the page."""
    with atomic_write(PAGE) as file:
        file.write(_page())


def stale() -> bool:
    """Whether the page is not what rows and results say."""
    return PAGE.read_text(encoding="utf-8") != _page()


def _page() -> str:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return "\n".join([f"{before}{BEGIN}\n", *_tables(read())]) + f"\n\n{END}{rest.partition(END)[2]}"


def _tables(measured: Sequence[Measured]) -> Iterator[str]:
    all_rows = [rows.read(name) for name in rows.names()]
    compared = [one for one in measured if not one.differences]
    reproduced = {one.row for one in compared}
    yield (
        f"{len(all_rows)} rows. Compared with what was published: {len(reproduced)} of them. Run in another way, which "
        f"compares nothing: {len({one.row for one in measured} - reproduced)}. The others were not run.\n"
    )
    yield from _compared(compared)
    yield from _tried([one for one in measured if one.differences])
    yield "## The rows\n"
    yield from _table(("row", "model", "candidates", "published nDCG@10", "here"))
    for one in all_rows:
        yield _cells(_described(one, [each for each in measured if each.row == one.name]))
    yield "\nIn what the sources did otherwise, and what keeps a row from being run:\n"
    for one in all_rows:
        if one.note or one.obstacle:
            yield f"- `{one.name}`: {one.note or one.obstacle}"


def _described(one: Row, measured: Sequence[Measured]) -> list[str]:
    models = ", ".join(f"`{model}`" for model in one.models) or "none: the first stage itself"
    here = "cannot be run" if one.obstacle else "not run"
    if measured:
        here = "in another way, above" if all(each.differences for each in measured) else "compared, above"
    title = f"[{one.title}]({one.source}) `{one.name}`"
    return [title, models, f"{one.depth} of {one.first_stage}", published(one, linked=True), here]


def _compared(measured: Sequence[Measured]) -> Iterator[str]:
    """Those that can be held against what was published."""
    if not measured:
        return
    yield "## Compared\n"
    yield from _table(("row", "collection", "first stage", "measured", "95 % interval", "published", "difference", ""))
    for one in measured:
        row = rows.read(one.row)
        for figure in row.figure:
            if (figure.collections, figure.measure) == (one.collections, one.measure):
                first = published_first(row, one.collections[0], one.measure)
                yield _cells(
                    [
                        f"`{one.row}`",
                        f"{_where(one)}, {one.queries} queries",
                        f"{share(one.first_stage)}" + (f" ({share(first.value)})" if first else "")
                        if row.stage
                        else "",
                        share(one.value),
                        " to ".join(map(share, one.interval)),
                        share(figure.value),
                        f"{one.value - figure.value:+.4f}",
                        verdict(one, figure, row),
                    ]
                )
    yield ""


def _tried(measured: Sequence[Measured]) -> Iterator[str]:
    """Those that show that a row's path runs, and no more."""
    if not measured:
        return
    yield "## Run in another way\n"
    yield (
        "The path of a row from end to end; no value here says anything about what was published. Small models write "
        "hardly any order that can be read: what was wrong with answers and put right counts as repairs.\n"
    )
    yield from _table(
        ("row", "collection", "questions", "repairs", "measured", "first stage", "otherwise than published")
    )
    for one in measured:
        counted = [f"{one.questions:,}", f"{one.repairs:,}"] if rows.read(one.row).stage else ["", ""]
        values, otherwise = [share(one.value), share(one.first_stage)], "; ".join(one.differences)
        yield _cells([f"`{one.row}`", _where(one), *counted, *values, otherwise])
    yield ""


def _where(one: Measured) -> str:
    return "+".join(one.collections) + ("" if one.measure == "nDCG@10" else f", {one.measure}")


def _table(head: Sequence[str]) -> Iterator[str]:
    yield _cells(head)
    yield _cells(["---"] * len(head))


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
