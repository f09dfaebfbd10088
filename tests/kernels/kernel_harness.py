"""What the tests of all kernels share: cases, interpreted runs over poisoned memory, compilation without a GPU.

Every `*_cases.py` beside this file has a list `CASES`; `test_providers.py` goes over all of them. Where there is no
GPU, kernels run in Triton's interpreter, in a process of their own: the interpreter is chosen by an environment
variable that is read when triton is imported, and no other test may be touched by it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rerank.kernels.op import Op

__all__ = [
    "ARCHITECTURES",
    "CASES_BY_OP",
    "DEVICE",
    "DTYPES",
    "HAS_TRITON",
    "Case",
    "Resources",
    "check_provider",
    "compile_for",
    "compiled",
    "poison_new_memory",
    "where_kernels_run",
]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
HAS_TRITON = find_spec("triton") is not None
ARCHITECTURES = {80: 163 * 1024, 90: 227 * 1024}
"""What is compiled for, and the bytes of shared memory that one program may have there."""

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Absolute and relative. Both sides compute in float32; what is given back in 16 bits may be rounded the other way."""


@dataclass(frozen=True)
class Case:
    """How to call an op in tests.

    Args:
        op: the op's name, which is also its folder unless `folder` says another: `rerank.kernels.<op>.<op>`.
        make: (*row, dtype) -> the op's positional and keyword arguments, on the CPU, random.
        rows: tiny shapes, each the arguments of `make`; they run in the interpreter, which is slow.
        real: shapes as models have them; compiled ahead of time, never run here.
        gradients: the names or indices of the arguments whose gradients providers must agree on.
        folder: where the op is, when it shares a folder.
        asked_for: whether providers are only used on demand, so that none says it supports anything.
    """

    op: str
    make: Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]
    rows: Mapping[str, tuple[Any, ...]]
    real: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    gradients: tuple[int | str, ...] = ()
    folder: str = ""
    asked_for: bool = False

    def load(self) -> Op:
        """The op itself."""
        return getattr(import_module(f"rerank.kernels.{self.folder or self.op}"), self.op)


def _cases() -> dict[str, Case]:
    modules = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("*_cases.py"))]
    return {case.op: case for module in modules for case in module.CASES}


@cache
def CASES_BY_OP() -> dict[str, Case]:
    """Every case there is, by op."""
    return _cases()


# --- running ---------------------------------------------------------------------------------------------------------


def poison_new_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill what `empty` gives with nan, or an integer's minimum: a place that is never written shows."""

    def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def poison(*args: Any, **options: Any) -> Tensor:
            tensor = make(*args, **options)
            if tensor.dtype == torch.bool:
                return tensor.fill_(True)
            return tensor.fill_(float("nan") if tensor.is_floating_point() else torch.iinfo(tensor.dtype).min)

        return poison

    for owner, name in [(torch, "empty"), (torch, "empty_like"), (torch, "empty_strided"), (Tensor, "new_empty")]:
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))


@contextmanager
def where_kernels_run() -> Iterator[Callable[..., Any]]:
    """Gives `call(function, *args)`: here when there is a GPU, else in a process that interprets kernels."""
    if DEVICE == "cuda":
        yield lambda function, *args: function(*args)
        return
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_interpret) as process:
        yield lambda function, *args: process.submit(function, *args).result()


def _interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"  # nothing has imported triton yet
    torch.set_num_threads(1)


def check_provider(op_name: str, provider: str, row: str, dtype: str) -> None:
    """Assert that a provider gives what the reference gives, forward and backward, with new memory poisoned."""
    case = CASES_BY_OP()[op_name]
    op = case.load()
    torch.manual_seed(0)
    made = case.make(*case.rows[row], DTYPES[dtype])
    expected = _results(op.providers["reference"].run, case, *made)
    with pytest.MonkeyPatch.context() as monkeypatch:
        poison_new_memory(monkeypatch)
        supported = op.providers[provider].supports(*_moved(made[0]), **_moved(made[1]))
        assert supported or case.asked_for, "the row is not supported"
        got = _results(op.providers[provider].run, case, *made)
    _assert_close(got, expected)


def _results(
    run: Callable[..., Any], case: Case, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and the gradients of what the case names."""
    named = dict(enumerate(_moved(args))) | _moved(options)
    wanted = [named[name].requires_grad_() for name in case.gradients if isinstance(named.get(name), Tensor)]
    outputs = run(*(named[index] for index in range(len(args))), **{name: named[name] for name in options})
    outputs = [output for output in (outputs if isinstance(outputs, tuple) else (outputs,)) if output is not None]
    if not wanted:
        return outputs, []
    # a sum with weights of its own for every place, so that no gradient is a constant
    weights = [torch.linspace(-1, 1, output.numel(), device=DEVICE).view(output.shape) for output in outputs]
    total = sum((output.float() * weight).sum() for output, weight in zip(outputs, weights, strict=True))
    return outputs, list(torch.autograd.grad(total, wanted))


def _moved(arguments: Any) -> Any:
    """A copy on the device; lists, tuples and mappings are gone into."""
    if isinstance(arguments, Tensor):
        return arguments.detach().to(DEVICE, copy=True)
    if isinstance(arguments, dict):
        return {name: _moved(value) for name, value in arguments.items()}
    if isinstance(arguments, list | tuple):
        return type(arguments)(_moved(value) for value in arguments)
    return arguments


def _assert_close(got: tuple[list[Tensor], list[Tensor]], expected: tuple[list[Tensor], list[Tensor]]) -> None:
    for kind, these, those in zip(("output", "gradient"), got, expected, strict=True):
        assert len(these) == len(those)
        for index, (this, that) in enumerate(zip(these, those, strict=True)):
            near = TOLERANCE.get(that.dtype, 0)
            torch.testing.assert_close(
                this, that, rtol=near, atol=near, msg=lambda text, where=f"{kind} {index}: ": where + text
            )


# --- compiling -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resources:
    """What one program of a compiled kernel takes: registers a thread, bytes of shared memory and of stack."""

    kernel: str
    registers: int
    shared: int
    stack: int


def compiled(op_name: str, provider: str, row: str, dtype: str, arch: int) -> list[Resources]:
    """Compile every kernel that a real row would launch. Nothing is run, so the arguments may lie on the CPU."""
    case = CASES_BY_OP()[op_name]
    args, options = case.make(*case.real[row], DTYPES[dtype])
    with _recorded_launches() as launches:
        case.load().providers[provider].run(*args, **options)
    assert launches, "the provider launched no kernel"
    return [_compile_launch(kernel, values, settings, arch) for kernel, values, settings in launches]


def compile_for(
    fn: Any,
    signature: dict[str, str],
    constexprs: dict[str, Any],
    arch: int,
    *,
    aligned: tuple[str, ...] = (),
    settings: dict[str, Any] | None = None,
) -> Resources:
    """Compile a kernel ahead of time and read off what it takes.

    Args:
        signature: every argument's type: "*bf16", "i32", "fp32", "constexpr".
        constexprs: the values of those.
        arch: 80 or 90.
        aligned: arguments that are multiples of 16, as new tensors' addresses are.
        settings: num_warps, num_stages.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    attributes = {(fn.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(fn, signature, constexprs, attributes)
    binary = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=settings or {})
    usage = _usage(binary.asm["cubin"])
    return Resources(fn.__name__, usage["REG"], binary.metadata.shared, usage["STACK"])


@contextmanager
def _recorded_launches() -> Iterator[list[tuple[Any, dict[str, Any], dict[str, Any]]]]:
    """Within the block kernels are written down with their arguments instead of being launched."""
    from triton.runtime.jit import JITFunction

    launches = []

    def record(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        values = dict(zip(kernel.arg_names, args, strict=False))
        values |= {name: options.pop(name) for name in kernel.arg_names if name in options}
        launches.append((kernel, values, options))

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(JITFunction, "run", record)
        yield launches


def _compile_launch(kernel: Any, values: dict[str, Any], settings: dict[str, Any], arch: int) -> Resources:
    """As Triton would at the launch: None and 1 are constants, multiples of 16 are known as such."""
    declared = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
    values |= {p.name: p.default for p in kernel.params if p.name not in values}
    constexprs = {
        name: value
        for name, value in values.items()
        if name in declared or value is None or (type(value) is int and value == 1)
    }
    signature = {name: "constexpr" if name in constexprs else _type(values[name]) for name in kernel.arg_names}
    aligned = tuple(name for name in kernel.arg_names if name not in constexprs and _aligned(values[name]))
    return compile_for(kernel, signature, constexprs, arch, aligned=aligned, settings=settings)


_TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int8: "*i8",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.bool: "*i1",
}


def _type(value: Any) -> str:
    if isinstance(value, Tensor):
        return _TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else ("i32" if abs(value) < 2**31 else "i64")


def _aligned(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.storage_offset() * value.element_size() % 16 == 0
    return isinstance(value, int) and value % 16 == 0


def _usage(cubin: bytes) -> dict[str, int]:
    """Registers and stack as cuobjdump, which comes with triton, reads them off a binary."""
    import tempfile

    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True).stdout
    return {name: int(count) for name, count in re.findall(r"(REG|STACK):(\d+)", text)}


def _table() -> Iterator[str]:
    """The lines of docs/kernels.md that say what each kernel takes."""
    yield "| op | shape | kernel | " + " | ".join(f"sm_{arch}: registers, shared KiB" for arch in ARCHITECTURES) + " |"
    yield "|---|---|---|" + "---|" * len(ARCHITECTURES)
    for case in CASES_BY_OP().values():
        for row in case.real:
            per_arch = [compiled(case.op, "triton", row, "bfloat16", arch) for arch in ARCHITECTURES]
            for kernels in zip(*per_arch, strict=True):
                cells = " | ".join(f"{kernel.registers}, {kernel.shared / 1024:.1f}" for kernel in kernels)
                yield f"| {case.op} | {row} | {kernels[0].kernel} | {cells} |"


if __name__ == "__main__":  # PYTHONPATH=tests/kernels python tests/kernels/kernel_harness.py
    import kernel_harness  # the module that the cases know, not this copy of it called __main__

    print(*kernel_harness._table(), sep="\n")
