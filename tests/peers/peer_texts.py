"""What comparisons with other people's rerankers are made on, and what counts as the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from rerank.types import Query, Ranking

QUERY = Query("q", "how many people live in Berlin?")
TEXTS = (
    "Berlin has a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    "New York City is famous for the Metropolitan Museum of Art.",
    "The Berlin Wall fell in 1989, and with it went the border that had cut the city in two for 28 years.",
    "People who live in large towns walk more than others do.",
    "Bread is baked from flour, water and salt.",
    "Berlin.",
)


def agree(ours: Ranking, theirs: Sequence[float]) -> None:
    """The same scores to 1e-3, and the same order, where a peer's two scores are not closer than that."""
    expected = {str(index): score for index, score in enumerate(theirs)}
    assert len({round(score, 2) for score in theirs}) > len(theirs) // 2, "a model that tells nothing apart"
    assert {one.document.doc_id: one.score for one in ours} == pytest.approx(expected, abs=1e-3)
    order = [expected[one.document.doc_id] for one in ours]
    assert all(better >= worse - 1e-3 for better, worse in pairwise(order))
