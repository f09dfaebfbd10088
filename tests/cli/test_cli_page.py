"""docs/rerank.md does what it says."""

from __future__ import annotations

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "rerank.md"


def test_the_python_of_the_page_gives_what_it_shows():
    found = doctest.testfile(str(PAGE), module_relative=False)

    assert found.attempted >= 7
    assert found.failed == 0
