"""Adapters with the real frameworks; a framework that is not installed is skipped, and said."""

from __future__ import annotations

import os

import pytest
from cities import QUERY, TEXTS

from rerank import Reranker
from rerank.judges.fake import Oracle

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # read when haystack is imported; tests tell nobody


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Frameworks warn about what is no affair of ours."""
    for item in items:
        if "/integrations/" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def reranker(minilm) -> Reranker:
    """The real MiniLM-L12."""
    return Reranker(minilm, device="cpu")


@pytest.fixture(scope="session")
def expected(reranker) -> list[float]:
    """Its scores of `TEXTS`, by index."""
    ranking = reranker.rank(QUERY, TEXTS)
    return [score for _, score in sorted((int(each.document.doc_id), each.score) for each in ranking)]


@pytest.fixture
def ordering() -> Reranker:
    """A method that measures an order and no scores: document "1" first, then "2"."""
    return Reranker(judge=Oracle({"query": {"1": 2, "2": 1}, "q1": {"1": 2, "2": 1}}), algorithm="full-list")
