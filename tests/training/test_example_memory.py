"""Reading examples takes no more memory from large files than from small ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

READING, WRITING = 8.0, 40.0
"""MB: of SQLite's cache and one example; of Arrow's batches, which hold 1,000 examples."""


def test_fifty_megabytes_of_ms_marcos_files_raise_memory_by_a_few(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "read_examples_flat.py"
    command = [sys.executable, str(script), "--megabytes", "50", "--folder", str(tmp_path / "marco")]

    ran = subprocess.run(command, cwd=ROOT, env=None, capture_output=True, text=True, check=True)

    found = json.loads(ran.stdout)
    sizes = {name: float(size.removesuffix(" MB")) for name, size in found["files"].items()}
    steps = {name: step for name, step in found.items() if isinstance(step, dict) and "seconds" in step}
    raised = {name: step["peak raised by MB"] for name, step in steps.items()}
    assert sum(sizes.values()) > 45
    assert steps["text triples"]["examples"] > 20_000
    assert steps["hard negatives"]["examples"] > 3_000
    assert steps["id triples"]["examples"] == steps["MarginMSE"]["examples"] == 7_500
    assert steps["run and qrels"]["examples"] == steps["RankDistiLLM"]["examples"] == 75
    assert raised.pop("id triples to Arrow") < WRITING
    assert {name: amount for name, amount in raised.items() if amount > READING} == {}
    assert len(raised) == 8
