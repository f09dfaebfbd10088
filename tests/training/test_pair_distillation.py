"""Two percent of a noisy teacher's pairs teach a small student what all of them would."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from training.examples import Example

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "distil_from_pairs.py"
QUERIES, DOCUMENTS, FEATURES = 15, 50, 4


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("distil_from_pairs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_percent_of_the_pairs_reach_98_percent_of_the_quality_of_all(script: ModuleType) -> None:
    """Grades from 0 to 3 follow a hidden direction of the features; the teacher errs in a fifth of its looks."""
    draw = torch.Generator().manual_seed(0)
    direction = torch.randn(FEATURES, generator=draw)
    features = {str(query): _retrieved(direction, draw) for query in range(QUERIES)}
    ids = tuple(map(str, range(DOCUMENTS)))
    qrels = {query: _grades(table @ direction) for query, table in features.items()}
    examples = [
        Example(f"words {query}", tuple(f"text {one}" for one in ids), query_id=query, doc_ids=ids) for query in qrels
    ]

    found = script.quality(features, examples, qrels, seed=0)

    assert found["all"] > 0.95
    assert found["uniform"] >= 0.98 * found["all"]
    assert found["rank-aware"] >= 0.98 * found["all"]
    assert len(script.WAYS["uniform"].sample(DOCUMENTS)) == round(0.02 * DOCUMENTS * (DOCUMENTS - 1) / 2)


def _retrieved(direction: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Features in the order of a first stage that knows a little: what rank-aware pairs rely on."""
    table = torch.randn(DOCUMENTS, FEATURES, generator=draw)
    known = table @ direction + 2 * torch.randn(DOCUMENTS, generator=draw)
    return table[known.argsort(descending=True)]


def _grades(values: torch.Tensor) -> dict[str, int]:
    """The best five of a list are 3, the next ten 2, the next fifteen 1."""
    order = values.argsort(descending=True).tolist()
    return {str(index): 3 * (rank < 5) or 2 * (rank < 15) or int(rank < 30) for rank, index in enumerate(order)}
