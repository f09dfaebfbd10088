"""Products whose bits do not depend on where their operands lie."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rerank.engine import products
from rerank.engine.products import MODE, VARIABLE, are_reproducible, ask_for_reproducible

INTEL = "processor\t: 0\nvendor_id\t: GenuineIntel\n"
AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.0\n"


def test_they_are_here() -> None:
    assert are_reproducible()


@pytest.mark.parametrize(("about", "chosen"), [(AMD, MODE), (INTEL, None), (ARM, None), (None, None)])
def test_the_mode_is_chosen_where_it_is_needed(
    about: str | None, chosen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if about is not None:
        (tmp_path / "cpuinfo").write_text(about)
    monkeypatch.setattr(products, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(products.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv(VARIABLE, raising=False)

    ask_for_reproducible()

    assert os.environ.get(VARIABLE) == chosen


def test_a_users_own_choice_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(AMD)
    monkeypatch.setattr(products, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setenv(VARIABLE, "COMPATIBLE")

    ask_for_reproducible()

    assert os.environ[VARIABLE] == "COMPATIBLE"


def test_importing_the_package_is_enough() -> None:
    code = "import torch, rerank; from rerank.engine.products import are_reproducible; print(are_reproducible())"
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}

    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "True"


def test_a_reranker_tells_when_it_was_asked_for_too_late(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rerank import Reranker
    from rerank.engine import loading

    monkeypatch.setattr(loading, "are_reproducible", lambda: False)
    reranker = Reranker(minilm)
    reranker.rank("one?", ["two"])

    assert reranker.ledger.notes["bits"].startswith("the last bit of a score may change from run to run")
    assert f"{VARIABLE}={MODE}" in reranker.ledger.notes["bits"]
