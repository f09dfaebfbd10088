"""Kernels run where they can: on a GPU, or interpreted in another process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kernel_harness import where_kernels_run


@pytest.fixture(scope="session")
def call() -> Iterator[Callable[..., Any]]:
    """`call(function, *args)` where kernels run; the function must be importable, not a test's own."""
    with where_kernels_run() as call:
        yield call
