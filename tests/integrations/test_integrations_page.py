"""The examples of docs/integrations.md, as they are written; those of a framework that is not installed are skipped."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "integrations.md"
SECTIONS = dict(re.findall(r"^## (.+?)\n(?:(?!^## ).)*?^```python\n(.*?)^```$", PAGE.read_text(), re.S | re.M))
PACKAGES = {
    "LangChain": "langchain_core",
    "LlamaIndex": "llama_index",
    "Haystack": "haystack",
    "PyTerrier": "pyterrier",
    "sentence-transformers": "rerank",
    "mteb": "mteb",
}


@pytest.mark.usefixtures("minilm")
@pytest.mark.parametrize("title", PACKAGES)
def test_the_example_of_a_framework_runs(title: str) -> None:
    if find_spec(PACKAGES[title]) is None:
        pytest.skip(f"needs {PACKAGES[title]}, which the extra brings that the page names")
    left: dict[str, Any] = {}

    exec(compile(SECTIONS[title], f"{PAGE.name}, {title}", "exec"), left)

    if title == "PyTerrier":
        assert list(left["best"].docno) == ["d2"]
    elif "best" in left:
        first = left["best"][0]
        text = getattr(first, "page_content", None) or getattr(first, "text", None) or first.content
        assert text == "A model that orders documents."


def test_every_framework_of_the_page_has_an_example() -> None:
    assert SECTIONS.keys() == PACKAGES.keys()
