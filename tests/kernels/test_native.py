"""Kernels in C: right, the same bits whatever surrounds a text, and not missed where they cannot be had."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from attention_cases import VARLEN, qkv, starts
from kernel_harness import poison_new_memory
from torch import Tensor
from torch.nn.functional import layer_norm

from rerank.errors import InputError
from rerank.kernels import native
from rerank.kernels.add_norm import add_norm
from rerank.kernels.native.build import Unbuildable, built
from rerank.kernels.varlen_attention import first_token_attention, varlen_attention

LENGTHS = [1, 2, 15, 16, 17, 0, 47, 48, 49, 63, 64, 65, 129, 512]
CAPABILITY = torch.backends.cpu.get_cpu_capability().lower()

needs_library = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.status()}")


@pytest.fixture(params=["avx512", "avx2"])
def instructions(request, monkeypatch) -> str:
    """Every set of instructions that this CPU has, in turn."""
    if native.library() is None or (request.param == "avx512" and CAPABILITY != "avx512"):
        pytest.skip(f"{request.param} cannot be had: {native.status()}")
    monkeypatch.setattr(native, "_found", lambda asked: (native.load(request.param), request.param))
    return request.param


@pytest.fixture(autouse=True)
def poisoned(monkeypatch) -> None:
    poison_new_memory(monkeypatch)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def attended(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], **options) -> Tensor:
    with varlen_attention.using("native"):
        return varlen_attention(q, k, v, starts(lengths), max(lengths), **options)


ROWS = [name for name, row in VARLEN.rows.items() if not {"cap", "return_lse"} & row[4].keys()]


@pytest.mark.parametrize("row", ROWS)
def test_native_attention_agrees_with_the_reference_on_every_row_it_takes(instructions, row):
    torch.manual_seed(0)
    args, options = VARLEN.make(*VARLEN.rows[row], torch.float32)
    assert varlen_attention.pick(*args, **options).name == "native"

    got = varlen_attention(*args, **options)

    close(got, varlen_attention.providers["reference"].run(*args, **options))


@pytest.mark.parametrize(
    "options", [{}, {"window": 7}, {"window": 64}, {"causal": True}, {"causal": True, "window": 30}]
)
@pytest.mark.parametrize("dim", [32, 96])
def test_native_attention_agrees_with_the_reference_for_every_length(instructions, dim, options):
    torch.manual_seed(dim)
    q, k, v = qkv(sum(LENGTHS), 2, 1, dim, torch.float32)

    got = attended(q, k, v, LENGTHS, **options)

    close(got, varlen_attention.providers["reference"].run(q, k, v, starts(LENGTHS), max(LENGTHS), **options))


def test_native_attention_adds_relative_distances(instructions):
    torch.manual_seed(1)
    q, k, v = qkv(sum(LENGTHS), 2, 2, 64, torch.float32)
    options = {"bias": torch.randn(2, 32), "scale": 0.1}

    got = attended(q, k, v, LENGTHS, **options)

    close(got, varlen_attention.providers["reference"].run(q, k, v, starts(LENGTHS), max(LENGTHS), **options))


@pytest.mark.parametrize("window", [None, 7, 200])
def test_first_tokens_get_what_they_get_among_all(instructions, window):
    torch.manual_seed(2)
    lengths = [length for length in LENGTHS if length]
    q, k, v = qkv(sum(lengths), 2, 2, 32, torch.float32)
    ends = starts(lengths)
    first = q[ends[:-1]]
    assert first_token_attention.pick(first, k, v, ends, max(lengths)).name == "native"

    got = first_token_attention(first, k, v, ends, max(lengths), window=window)

    defined = first_token_attention.providers["reference"].run(first, k, v, ends, max(lengths), window=window)
    close(got, defined)
    close(got, attended(q, k, v, lengths, window=window)[ends[:-1]])


def test_scores_too_large_for_an_exponential_pick_their_key(instructions):
    places = torch.arange(100)
    keys = torch.zeros(100, 1, 32)
    keys[:, 0, 0] = torch.where(places == 70, 1e18, -1e18)
    q, v = torch.full((100, 1, 32), 1e18), torch.randn(100, 1, 32)

    got = attended(q, keys, v, [100])

    assert torch.equal(got, v[70:71].expand(100, 1, 32))


def test_a_nan_is_not_hidden(instructions):
    q, k, v = qkv(100, 1, 1, 32, torch.float32)
    k = k.clone()
    k[3, 0, 5] = float("nan")

    assert attended(q, k, v, [100]).isnan().all()


def test_rows_beyond_the_texts_are_zeros(instructions):
    q, k, v = qkv(30, 2, 2, 32, torch.float32)

    assert attended(q, k, v, [10, 13])[23:].eq(0).all()


def test_a_text_longer_than_was_said_is_refused(instructions):
    q, k, v = qkv(30, 2, 2, 32, torch.float32)

    with varlen_attention.using("native"), pytest.raises(InputError, match="longest=29"):
        varlen_attention(q, k, v, starts([30]), 29)


@pytest.mark.parametrize("options", [{}, {"window": 20}])
def test_a_text_gets_the_same_bits_whatever_surrounds_it(instructions, options, threads):
    torch.manual_seed(3)
    lengths = [3, 130, 64, 500, 1, 77]
    texts = [torch.randn(length, 3, 4, 32) for length in lengths]
    threads(1)
    alone = [attended(*text.unbind(1), [len(text)], **options) for text in texts]

    for order, count in itertools.product(([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 4, 2], [3, 2]), (1, 2)):
        threads(count)
        row = torch.cat([torch.randn(0, 3, 4, 32), *(texts[index] for index in order)])
        got = attended(*row.unbind(1), [lengths[index] for index in order], **options)
        parts = torch.split(got, [lengths[index] for index in order])
        assert all(torch.equal(part, alone[index]) for part, index in zip(parts, order, strict=True))


@pytest.mark.parametrize("width", [32, 96, 128, 384, 768, 1024])
def test_add_norm_is_a_layer_norm_of_the_sum(instructions, width):
    torch.manual_seed(width)
    x, residual = torch.randn(2, 77, width) * 3 + 1
    weight, bias = torch.randn(2, width)
    assert add_norm.pick(x, residual, weight, bias, 1e-12).name == "native"

    got = add_norm(x, residual, weight, bias, 1e-12)

    exact = layer_norm((x + residual).double(), (width,), weight.double(), bias.double(), 1e-12)
    torch.testing.assert_close(got, exact.float(), rtol=1e-6, atol=2e-6)
    without = layer_norm((x + residual).double(), (width,), weight.double(), None, 1e-12).float()
    torch.testing.assert_close(add_norm(x, residual, weight, None, 1e-12), without, rtol=1e-6, atol=2e-6)


def test_add_norm_gives_a_row_the_same_bits_wherever_it_lies(instructions, threads):
    x, residual, weight, bias = torch.randn(500, 384), torch.randn(500, 384), torch.randn(384), torch.randn(384)
    threads(1)
    whole = add_norm(x, residual, weight, bias, 1e-12)

    threads(2)
    assert torch.equal(add_norm(x, residual, weight, bias, 1e-12), whole)
    assert torch.equal(add_norm(x[77:79], residual[77:79], weight, bias, 1e-12), whole[77:79])


@needs_library
def test_what_native_kernels_cannot_take_is_left_to_others():
    q, k, v = qkv(3, 2, 2, 32, torch.float32)
    ends = starts([3])
    pick = lambda *args, **options: varlen_attention.pick(*args, ends, 3, **options).name  # noqa: E731

    assert pick(q, k, v) == "native"
    assert pick(q, k, v, cap=3.0) != "native"
    assert pick(q, k, v, return_lse=True) != "native"
    assert pick(*(part[..., :31] for part in (q, k, v))) != "native"
    assert pick(*(part.bfloat16() for part in (q, k, v))) != "native"
    assert pick(q.clone().requires_grad_(), k, v) != "native"
    assert add_norm.pick(torch.ones(3, 40), torch.ones(3, 40), torch.ones(40), None, 1e-5).name == "reference"


@pytest.fixture
def fresh(monkeypatch, tmp_path) -> Iterator[Path]:
    """No library is known, and the cache is empty."""
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    native._found.cache_clear()
    native.load.cache_clear()
    yield tmp_path
    native._found.cache_clear()
    native.load.cache_clear()


def test_without_a_compiler_the_reference_computes(fresh, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    q, k, v = qkv(3, 2, 2, 32, torch.float32)

    assert varlen_attention.pick(q, k, v, starts([3]), 3).name != "native"
    assert native.library() is None
    assert "no-such-compiler" in native.status() or "Linux on x86_64" in native.status()


@needs_library
def test_a_compiler_that_fails_is_told(fresh, monkeypatch):
    monkeypatch.setenv("CC", "false")

    assert native.library() is None
    assert native.status().startswith("'false' does not")


def test_native_kernels_can_be_switched_off(fresh, monkeypatch):
    monkeypatch.setenv("RERANK_NATIVE", "0")

    assert native.library() is None
    assert native.status() == "switched off by RERANK_NATIVE=0"


def test_other_instructions_are_not_guessed_at(fresh):
    with pytest.raises(Unbuildable, match="default"), built("default"):
        pass


@needs_library
def test_a_library_is_compiled_once_and_kept(fresh, monkeypatch):
    with built(CAPABILITY) as first:
        stamp = first.stat().st_mtime_ns
    with built(CAPABILITY) as second:
        pass

    assert first == second
    assert first.parent == fresh / "cache/native"
    assert second.stat().st_mtime_ns == stamp
    assert [path.suffix for path in sorted(first.parent.iterdir())] == [".lock", ".so"]


@needs_library
def test_without_a_cache_that_can_be_written_the_library_is_the_process_own(fresh, monkeypatch):
    (fresh / "cache").write_text("a file where the folder should be")

    with built(CAPABILITY) as path:
        assert path.exists()
    assert not path.exists()


@needs_library
def test_threads_are_those_of_torch_alone():
    program = (
        "import torch; from rerank.kernels import native; assert native.library(); "
        "print(len({line.split()[-1] for line in open('/proc/self/maps') if 'gomp' in line or 'iomp' in line}))"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ})

    assert ran.stdout.strip() == "1", ran.stderr
