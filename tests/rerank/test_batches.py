"""Memory that runs out halves the budget once, says so, and costs nothing that was computed."""

from __future__ import annotations

import logging

import pytest
import torch

from rerank.cost import Ledger
from rerank.engine import packing
from rerank.engine.batches import Budget, is_out_of_memory, run
from rerank.errors import JudgeError

LENGTHS = [10] * 20


class Model:
    """Holds so many tokens and no more; counts its calls."""

    def __init__(self, holds: int, error: Exception | None = None):
        self.holds, self.calls = holds, []
        self.error = error or RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    def __call__(self, batch):
        self.calls.append(list(batch))
        if 10 * len(batch) > self.holds:
            raise self.error
        return [index * 2 for index in batch]


def answered(model, budget, pack=packing.in_order, ledger=None):
    found = run(LENGTHS, budget, pack, model, ledger or Ledger())
    return [pair for batch, result in found for pair in zip(batch, result, strict=True)]


@pytest.mark.parametrize("pack", [packing.in_order, packing.by_length])
@pytest.mark.parametrize(
    "error", [None, MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_the_budget_is_halved_once_and_every_text_is_computed_once(caplog, pack, error):
    model, budget, ledger = Model(60, error), Budget(100), Ledger()

    with caplog.at_level(logging.WARNING):
        found = answered(model, budget, pack, ledger)

    assert sorted(found) == [(index, index * 2) for index in range(20)]
    assert [len(batch) for batch in model.calls] == [10, 5, 5, 5, 5]
    assert (budget.tokens, budget.halved) == (50, True)
    assert ledger.notes["memory"] == "out of memory with a token budget of 100: going on with 50"
    assert [record.getMessage() for record in caplog.records] == [ledger.notes["memory"]]


def test_what_was_computed_before_memory_ran_out_stands():
    budget = Budget(100)
    model = Model(100)
    found = run(LENGTHS, budget, packing.in_order, model, Ledger())

    first = next(found)
    model.holds = 50
    rest = [index for batch, _ in found for index in batch]

    assert first == (list(range(10)), [index * 2 for index in range(10)])
    assert rest == list(range(10, 20))


def test_the_second_time_is_an_error_and_the_budget_stays_halved():
    model, budget = Model(20), Budget(100)

    with pytest.raises(JudgeError, match="out of memory with a token budget of 50, which was halved already; choose"):
        answered(model, budget)
    model.holds = 50

    assert len(answered(model, budget)) == 20
    assert [len(batch) for batch in model.calls] == [10, 5, 5, 5, 5, 5]


def test_another_error_is_not_taken_for_memory():
    with pytest.raises(RuntimeError, match="shapes do not match"):
        answered(Model(0, RuntimeError("shapes do not match")), Budget(100))


def test_torchs_own_error_on_the_cpu_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.int8)

    assert is_out_of_memory(caught.value)
