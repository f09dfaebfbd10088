"""The page of pitfalls names tests that there are; and what has no better place."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from rerank import Document, Query, Ranking, Reranker
from rerank.algorithms.pointwise import pointwise
from rerank.calibration import check_threshold
from rerank.engine.scheduler import Scheduler
from rerank.errors import InputError
from rerank.judges.fake import Oracle

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "pitfalls.md").read_text(encoding="utf-8")


def tables() -> list[list[str]]:
    """The lines of each table, without their heads."""
    return [re.findall(r"^\| \d+ .*$", part, re.M) for part in PAGE.split("\n## ")[1:]]


def test_every_pitfall_of_reranking_is_there() -> None:
    methods, tools = ([int(line.split("|")[1]) for line in lines] for lines in tables())

    assert methods == list(range(1, 26))
    assert tools == list(range(1, 15))


@pytest.mark.parametrize("line", [line for lines in tables() for line in lines], ids=lambda line: line[:40])
def test_the_tests_that_a_pitfall_names_are_there(line: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line)

    assert named
    for path, test in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path} has no {test}"


def test_zero_is_a_value_and_not_a_missing_one() -> None:
    """`value or default` would take each of these for nothing said."""
    judge = Oracle({"query": {"1": 1}})

    with pytest.raises(InputError, match=r"threshold=0\.0 is a probability and needs a calibration"):
        Reranker(judge=judge, threshold=0.0)
    with pytest.raises(InputError, match="0"):
        Reranker(judge=judge).rank("q", ["a", "b"], top=0)
    with pytest.raises(InputError, match="0"):
        Reranker(judge=judge, query_seconds=0.0)
    with pytest.raises(InputError, match="a deadline of 0"), Scheduler(judge) as scheduler:
        scheduler.submit(pointwise(Ranking.unscored(Query("q", "words"), [Document("1", "text")])), deadline=0)
    check_threshold(0.0)
