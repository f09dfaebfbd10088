"""The script of docs/noise.md plays every algorithm that a run is enough for."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from rerank.types import Document, Query, Ranking

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "noise_table.py"


def test_every_algorithm_has_a_row() -> None:
    script = runpy.run_path(str(SCRIPT), run_name="noise_table")
    ranking = Ranking.unscored(Query("q", "a query"), [Document(f"d{n}", f"text {n}") for n in range(12)])
    qrels = {"q": {f"d{n}": n % 4 for n in range(12)}}

    rows = {name: script["row"](algorithm, [ranking], qrels) for name, algorithm in script["able"]().items()}

    assert {"all-pairs", "heapsort", "sliding-windows", "pointwise", "tournament"} <= rows.keys()
    assert not {"gar", "ladr", "ladr-adaptive"} & rows.keys()
    assert rows["all-pairs"].questions == 12 * 11
    assert rows["all-pairs"].perfect == pytest.approx(1)
