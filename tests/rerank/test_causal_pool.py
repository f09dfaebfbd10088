"""Slots for keys and values: never given out twice, all given back; and the order in which a trie is computed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rerank.engine.decoders.kept import Kept, digests
from rerank.engine.decoders.kv_pool import KeyValues, joined
from rerank.engine.decoders.plan import PIECE, depth_first, last_uses, passes, places
from rerank.engine.prefix import Trie

SEGMENTS = st.lists(st.integers(0, 2), min_size=1, max_size=3).map(tuple)
PROMPTS = st.lists(st.lists(SEGMENTS, min_size=1, max_size=5), min_size=1, max_size=12)


def pool(slots: int = 8) -> KeyValues:
    return KeyValues(2, 1, 4, dtype=torch.float32, device=torch.device("cpu"), slots=slots)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=40))
def test_no_slot_is_given_out_twice(steps):
    slots, taken = pool(), {}

    for is_free, size in steps:
        if is_free and taken:
            start = sorted(taken)[size % len(taken)]
            length = taken.pop(start)
            slots.free(start, length)
        else:
            start = slots.allocate(size)
            own = set(range(start, start + size))
            assert not any(own & set(range(other, other + length)) for other, length in taken.items())
            taken[start] = size
        assert slots.used == sum(taken.values())

    for start, length in taken.items():
        slots.free(start, length)
    assert slots.used == 0
    assert slots.allocate(slots.capacity) == 0, "what is free is one run again"


def test_growing_keeps_what_is_there():
    slots = pool(4)
    start = slots.allocate(3)
    said = torch.arange(12.0).view(3, 1, 4)
    slots.write(1, torch.arange(start, start + 3), said, -said)

    slots.allocate(100)

    assert slots.capacity == 104
    assert torch.equal(slots.keys[1][start : start + 3], said)
    assert torch.equal(slots.values[1][start : start + 3], -said)
    assert slots.bytes_per_token == 2 * 2 * 4 * 4


def test_runs_side_by_side_become_one():
    assert joined([(0, 2), (2, 3), (9, 0), (7, 1), (8, 1), (5, 2)]) == ((0, 5), (7, 2), (5, 2))
    assert joined([]) == ()


@given(PROMPTS, st.integers(1, 12))
def test_passes_cover_the_trie_with_parents_first(prompts, budget):
    trie = Trie(prompts)

    parts = passes(trie, budget)

    pieces = [piece for part in parts for piece in part]
    assert sum(len(piece.ids) for piece in pieces) == trie.shared
    assert all(sum(len(piece.ids) for piece in part) <= budget or len(part) == 1 for part in parts)
    order = [piece.place[0] for piece in pieces]
    assert all(order.index(node.parent) < order.index(index) for index, node in enumerate(trie.nodes) if node.parent)
    assert sorted(depth_first(trie)) == list(range(len(trie.nodes)))
    uses = last_uses(trie, parts)
    for number, part in enumerate(parts):
        for piece in part:
            assert all(uses[node] >= number for node in [*trie.ancestors(piece.place[0]), piece.place[0]])


@given(PROMPTS)
def test_a_prompts_places_spell_it(prompts):
    trie = Trie(prompts)

    for index, prompt in enumerate(prompts):
        spelt = [trie.nodes[node].segments[number] for node, number in places(trie, index)]
        assert spelt == list(prompt)


def test_long_segments_are_cut_into_pieces():
    trie = Trie([[(1,) * (2 * PIECE + 3), (2,)]])

    [pieces] = passes(trie, 10**6)

    assert [(piece.start, len(piece.ids)) for piece in pieces] == [(0, PIECE), (PIECE, PIECE), (2 * PIECE, 3), (0, 1)]


def test_a_path_is_known_by_its_tokens_and_cuts():
    assert digests([(1, 2), (3,)])[1] != digests([(1,), (2, 3)])[1]
    assert digests([(1, 2), (3,)])[0] == digests([(1, 2), (4,)])[0]


@pytest.mark.parametrize("in_use", [False, True])
def test_what_is_in_use_is_not_given_up(in_use):
    slots = pool()
    kept = Kept(slots, limit=3)
    paths = [digests([(1,), (2,)]), digests([(1,), (3,)])]
    for path in paths:
        for key in path:
            if not kept.add(key, [(start := slots.allocate(2), 2)]):  # the first segment of both is the same
                slots.free(start, 2)
    kept.hold(paths[0])
    if not in_use:
        kept.let_go(paths[0])

    kept.shrink()

    assert [kept.found(path) for path in paths] == ([2, 1] if in_use else [1, 1])
    assert kept.tokens == slots.used == (4 if in_use else 2)
