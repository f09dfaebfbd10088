"""What the README and the Python pages tell a newcomer to type, typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from rerank.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = {"docs/cli.md"}  # from the help of the commands
PAGES = ["README.md", *sorted({page.relative_to(ROOT).as_posix() for page in ROOT.glob("docs/**/*.md")} - WRITTEN)]


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page that are marked with a language; "" for those without a mark."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [block for mark, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M) if mark == language]


def run(page: str) -> dict[str, Any]:
    """The names that are left when a page's blocks of Python have run, one after another."""
    left: dict[str, Any] = {}
    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), left)
    return left


@pytest.mark.usefixtures("minilm")
def test_the_readmes_examples_run() -> None:
    left = run("README.md")

    assert {candidate.document.text for candidate in left["ranking"]} == {"text one", "text two"}
    assert all(isinstance(candidate.score, float) for candidate in left["ranking"])
    assert left["best"].document.doc_id == "2-3"  # Anatomy of a Fall


@pytest.mark.usefixtures("minilm")
def test_the_python_pages_examples_run() -> None:
    left = run("docs/python.md")

    assert left["ranking"][0].document.doc_id == "1"
    assert [candidate.document.doc_id for candidate in left["reranked"][1]] == ["d2", "d1"]
    assert left["reranker"].ledger.total["questions"] > 0


def test_the_readmes_pipeline_is_the_file_it_names() -> None:
    [written] = blocks("README.md", "toml")

    file = (ROOT / "configs/bm25-cross-encoder.toml").read_text(encoding="utf-8")

    assert written in file


def commands(page: str) -> list[list[str]]:
    """The calls of `rerank` that a page shows, as lists of words without the first."""
    lines = "\n".join(blocks(page, "")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("rerank ")]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_are_ones_that_there_are(page: str) -> None:
    for name, *options in commands(page):
        assert name in COMMANDS, f"{page} shows 'rerank {name}'"
        command = main.get_command(click.Context(main), name)
        assert command is not None
        command.make_context(name, options)  # refuses unknown and missing options; runs nothing


def test_the_pages_show_commands() -> None:
    assert {name for page in PAGES for name, *_ in commands(page)} >= {"demo", "retrieve", "rerank", "evaluate", "run"}
