"""The examples of all pages are run: here, by a test of the page's own, or not, for a reason that stands here."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in ROOT.glob("docs/**/*.md")}
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.S | re.M)

TESTED_ELSEWHERE = {
    "docs/calibration.md": "tests/rerank/test_calibration.py",
    "docs/causal.md": "tests/rerank/test_causal.py",
    "docs/cost.md": "tests/rerank/test_cost.py",
    "docs/evaluate.md": "tests/rerank/test_evaluate.py",
    "docs/fuse.md": "tests/rerank/test_fusion.py",
    "docs/generation.md": "tests/rerank/test_generation.py",
    "docs/integrations.md": "tests/integrations/test_integrations_page.py",
    "docs/methods/hosted.md": "tests/rerank/test_hosted.py",
    "docs/python.md": "tests/test_readme.py",
    "docs/remote.md": "tests/rerank/test_remote.py",
    "docs/rerank.md": "tests/cli/test_cli_page.py",
    "docs/tokens.md": "tests/rerank/test_prompt_tokens.py",
}
NOT_RUN = {
    "docs/int8.md": "a conversion that tests/rerank/test_openvino.py makes anyway",
    "docs/pipelines.md": "2,100 documents to rerank, names of the reader's own",
    "docs/retrieve.md": "a collection that is not shipped, and the signature of a method",
}
LONGER = {"docs/long-documents.md": 1}
"""Pages of which so many blocks are run; the others need weights that are on the hub alone."""


WITH_EXAMPLES = {page for page, text in PAGES.items() if BLOCK.search(text)}
OURS = sorted(WITH_EXAMPLES - TESTED_ELSEWHERE.keys() - NOT_RUN.keys())


def test_every_page_with_examples_is_run_somewhere() -> None:
    assert {*TESTED_ELSEWHERE, *NOT_RUN, *LONGER} <= WITH_EXAMPLES
    for page, test in TESTED_ELSEWHERE.items():
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not run {page}"


@pytest.mark.parametrize("page", [page for page in OURS if "\n>>> " in PAGES[page]])
def test_the_sessions_of_a_page_print_what_they_say(page: str) -> None:
    found = doctest.testfile(str(ROOT / page), module_relative=False)

    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.usefixtures("minilm", "flan", "smollm")
@pytest.mark.parametrize("page", [page for page in OURS if "\n>>> " not in PAGES[page]])
def test_the_examples_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    left: dict[str, Any] = {}
    for number, block in enumerate(BLOCK.findall(PAGES[page])[: LONGER.get(page)], start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), left)
