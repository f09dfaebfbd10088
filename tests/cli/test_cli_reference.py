"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

import importlib.util
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_the_reference_is_what_the_commands_say():
    place = REPOSITORY / "scripts" / "write_cli_reference.py"
    spec = importlib.util.spec_from_file_location("write_cli_reference", place)
    assert spec is not None
    assert spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)

    written = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")

    assert written == writer.page(), "docs/cli.md is stale; run: python scripts/write_cli_reference.py"
