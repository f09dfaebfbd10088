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
