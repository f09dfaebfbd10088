"""Every op × provider × row of shapes × dtype; every kernel compiles for the GPUs that we mean."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kernel_harness import ARCHITECTURES, CASES_BY_OP, DTYPES, HAS_TRITON, check_provider, compiled

needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
RUNS = [(case.op, row) for case in CASES_BY_OP().values() for row in case.rows]
COMPILATIONS = [(case.op, row) for case in CASES_BY_OP().values() for row in case.real]


@needs_triton
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "row"), RUNS)
def test_provider_agrees_with_reference(call, op, row, dtype):
    call(check_provider, op, "triton", row, dtype)


@needs_triton
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("op", "row"), COMPILATIONS)
def test_kernels_compile_and_fit_the_gpu(op, row, arch, record_property):
    kernels = compiled(op, "triton", row, "bfloat16", arch)

    for kernel in kernels:
        record_property(
            kernel.kernel, f"{kernel.registers} registers, {kernel.shared} bytes shared, {kernel.stack} on the stack"
        )
        assert 0 < kernel.registers <= 255
        assert kernel.shared <= ARCHITECTURES[arch]


def test_the_page_about_kernels_names_every_op():
    page = (Path(__file__).resolve().parents[2] / "docs/kernels.md").read_text(encoding="utf-8")

    assert [op for op in CASES_BY_OP() if f"`{op}`" not in page] == []
