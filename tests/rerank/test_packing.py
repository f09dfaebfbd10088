"""Batches hold every text once and keep to their budget."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.engine.packing import by_length, in_order, settled_rows
from rerank.errors import InputError

LENGTHS = st.lists(st.integers(1, 600), max_size=80)


@given(lengths=LENGTHS, budget=st.integers(1, 2000))
def test_packed_batches_keep_the_order_and_the_budget(lengths, budget):
    batches = in_order(lengths, budget)

    assert [index for batch in batches for index in batch] == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in batch) <= budget or len(batch) == 1 for batch in batches)
    for batch, following in pairwise(batches):
        assert sum(lengths[index] for index in batch) + lengths[following[0]] > budget


@given(lengths=LENGTHS, budget=st.integers(1, 2000))
def test_padded_batches_hold_similar_lengths_within_the_budget(lengths, budget):
    batches = by_length(lengths, budget)

    flat = [index for batch in batches for index in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[index] for index in flat] == sorted(lengths, reverse=True)
    for batch in batches:
        rectangle = max(lengths[index] for index in batch) * len(batch)
        assert rectangle <= budget or len(batch) == 1


@pytest.mark.parametrize("pack", [in_order, by_length])
def test_a_budget_that_holds_nothing_is_refused(pack):
    with pytest.raises(InputError, match="0 tokens"):
        pack([1], 0)


@given(rows=st.integers(1, 5000), threads=st.integers(1, 9))
def test_settled_rows_give_every_thread_whole_vectors(rows, threads):
    widths = frozenset({384, 1536, 32, 48})

    settled = settled_rows(rows, widths, threads)

    assert rows <= settled < rows + 32 * threads
    for width in widths:
        elements = settled * width
        workers = min(threads, math.ceil(elements / 32_768))
        share = math.ceil(elements / workers)
        shares = [min(share, elements - share * worker) for worker in range(workers)]
        assert all(part % 32 == 0 for part in shares)
        assert width != 48 or all(part % 48 == 0 for part in shares)
