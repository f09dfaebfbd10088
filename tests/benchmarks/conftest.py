"""What benchmarks quieten is as loud as before afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def as_loud_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(), *map(logging.getLogger, ("transformers", "sentence_transformers", "torch.onnx"))]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
