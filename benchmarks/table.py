"""The latest results as a table for docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS

__all__ = ["BEGIN", "END", "PAGE", "latest", "rendered", "written"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- results: python -m benchmarks table -->\n", "<!-- end of results -->\n"
Row = Mapping[str, Any]


def latest(folder: Path = RESULTS) -> list[Row]:
    """The newest row of each workload, contest and peer, sorted by these; of peers, those measured come first."""
    rows: dict[tuple[str, str, str], Row] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if "contest" in row:
                rows[(row["workload"], row["contest"], row["peer"])] = row
    return [rows[key] for key in sorted(rows, key=lambda key: (key[0], key[1], "absent" in rows[key], key[2]))]


def rendered(rows: Sequence[Row]) -> str:
    """Markdown: what was run on which machine, then a line for each peer."""
    if not rows:
        return "No workload has been measured yet.\n"
    return "".join(f"{line}\n" for line in _lines(rows))


def written(page: str, table: str) -> str:
    """The page with the table in its place."""
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    return page[:start] + table + page[end:]


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for about in dict.fromkeys(_about(row) for row in rows):
        yield f"Measured on {about}."
    yield ""
    yield "| workload | contest | peer | ratio | 95 % interval | target | ours, s | peer, s | share of peak |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        cells = _absent(row) if "absent" in row else _measured(row)
        yield f"| {row['workload']} | {row['contest']} | {' | '.join(cells)} |"


def _about(row: Row) -> str:
    machine = row["machine"]
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"
    return f"{where}, torch {machine['torch']}, transformers {machine['transformers']}, commit {row['commit']}"


def _absent(row: Row) -> list[str]:
    return [row["peer"], "absent", row["absent"].replace("|", "\\|"), "", "", "", ""]


def _measured(row: Row) -> list[str]:
    name = f"{row['peer']} {row['peer_version']}".strip()
    if row["fraction"] < 1:
        name += f", {row['fraction']:.0%} of the work"
    low, high = row["interval"]
    share = row.get("hfu")
    seconds = row["seconds"]
    return [
        name,
        f"{row['ratio']:.2f}",
        f"{low:.2f} to {high:.2f}",
        _target(row),
        f"{seconds['ours']:.3g}",
        f"{seconds['peer']:.3g}",
        "" if share is None else f"{share:.0%}",
    ]


def _target(row: Row) -> str:
    """What is to be reached, and whether it is."""
    wanted = [f"≥ {row['target']}" if row["target"] else "", f"interval ≥ {row['floor']}" if row["floor"] else ""]
    text = ", ".join(part for part in wanted if part)
    return f"{text}: {'yes' if row['reached'] else 'no'}" if text else ""
