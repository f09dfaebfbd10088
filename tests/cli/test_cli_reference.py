"""Pages that a script writes are what it would write now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("script", "page"), [("write_cli_reference", "docs/cli.md"), ("write_methods_page", "docs/methods.md")]
)
def test_a_written_page_is_what_its_script_would_write_now(script: str, page: str) -> None:
    place = REPOSITORY / "scripts" / f"{script}.py"
    spec = importlib.util.spec_from_file_location(script, place)
    assert spec is not None
    assert spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)

    written = (REPOSITORY / page).read_text(encoding="utf-8")

    assert written == writer.page(), f"{page} is stale; run: python scripts/{script}.py"
