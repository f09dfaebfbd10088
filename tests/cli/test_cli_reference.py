"""Pages that a script writes are what it would write now."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]


def _script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("script", "page"), [("write_cli_reference", "docs/cli.md"), ("write_methods_page", "docs/methods.md")]
)
def test_a_written_page_is_what_its_script_would_write_now(script: str, page: str) -> None:
    written = (REPOSITORY / page).read_text(encoding="utf-8")

    assert written == _script(script).page(), f"{page} is stale; run: python scripts/{script}.py"


def test_pages_show_what_was_measured_and_nothing_else() -> None:
    script = _script("methods_on_noveleval")

    pages = dict(script.pages(script.read()))

    assert {"methods-measured.md", "pairwise.md", "listwise.md", "setwise.md", "pointwise.md"} <= {
        p.name for p in pages
    }
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is stale; run: python scripts/methods_on_noveleval.py"
