"""Comparisons with other people's rerankers: documents of many lengths."""

from __future__ import annotations

import random

import pytest
from peer_texts import TEXTS

from rerank.types import Document


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Peers warn about what is no affair of ours."""
    for item in items:
        if "/peers/" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """The texts above and shuffled mixtures of them, from one word to 120."""
    choice = random.Random(7)
    words = " ".join(TEXTS).split()
    mixed = [" ".join(choice.choices(words, k=choice.randint(3, 120))) for _ in range(14)]
    return [Document(str(index), text) for index, text in enumerate([*TEXTS, *mixed])]
