"""A trie of prompts: every shared piece once, parents first, and the tokens add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.engine.prefix import Node, Trie
from rerank.errors import InputError

SEGMENTS = st.lists(st.integers(0, 2), max_size=3).map(tuple)
PROMPTS = st.lists(st.lists(SEGMENTS, max_size=5).filter(any), max_size=12)
BEGINNINGS = st.lists(st.lists(SEGMENTS, max_size=4), max_size=4)

RULE, QUERY, TAIL = (1, 2, 3), (4, 5), (9,)
ONE, TWO = (6, 6), (7, 7, 7)


def paths(prompts) -> set[tuple]:
    """Every beginning of every prompt, in segments: what a trie computes once."""
    cut = [[segment for segment in prompt if segment] for prompt in prompts]
    return {tuple(prompt[: end + 1]) for prompt in cut for end in range(len(prompt))}


def test_pairs_in_both_orders_by_hand():
    trie = Trie([(RULE, QUERY, ONE, TWO, TAIL), (RULE, QUERY, TWO, ONE, TAIL), (RULE, QUERY, ONE, TWO, TAIL)])

    assert trie.nodes == (
        Node(None, (RULE, QUERY), start=0, length=5, level=0, requests=(), kept=False),
        Node(0, (ONE, TWO, TAIL), start=5, length=6, level=1, requests=(0, 2), kept=False),
        Node(0, (TWO, ONE, TAIL), start=5, length=6, level=1, requests=(1,), kept=False),
    )
    assert (trie.prompts, trie.distinct) == (3, 2)
    assert (trie.naive, trie.shared, trie.reused) == (33, 17, 16)
    assert trie.levels == [[0], [1, 2]]
    assert trie.ends == (1, 2, 1)
    assert (trie.ancestors(0), trie.ancestors(2)) == ([], [0])


def test_a_prompt_that_another_one_continues_ends_in_a_node_of_its_own():
    trie = Trie([(RULE, QUERY), (RULE,), (RULE, QUERY, TAIL)])

    assert [(node.parent, node.segments, node.requests) for node in trie.nodes] == [
        (None, (RULE,), (1,)),
        (0, (QUERY,), (0,)),
        (1, (TAIL,), (2,)),
    ]
    assert trie.shared == 6


def test_what_is_kept_is_not_computed_again():
    prompts = [(RULE, ONE, QUERY), (RULE, TWO, QUERY)]

    trie = Trie(prompts, kept=[(RULE, ONE), (RULE, (8, 8), QUERY)])

    assert [(node.segments, node.kept) for node in trie.nodes] == [
        ((RULE,), True),
        ((ONE,), True),
        ((TWO, QUERY), False),
        ((QUERY,), False),
    ]
    assert (Trie(prompts).shared, trie.shared) == (12, 7)
    assert Trie(prompts, kept=prompts).shared == 0


def test_prompts_share_whole_segments_only():
    assert Trie([((1, 2), (3,)), ((1,), (2, 3))]).shared == 6
    assert Trie([((1, 2), (3,)), ((1, 2), (4,))]).shared == 4


def test_empty_segments_change_nothing():
    assert Trie([(RULE, (), TAIL), ((), RULE, TAIL, ())]).nodes == Trie([(RULE, TAIL), (RULE, TAIL)]).nodes


@pytest.mark.parametrize("prompt", [(), ((),)])
def test_a_request_without_tokens_is_refused(prompt):
    with pytest.raises(InputError, match="request 1 has no tokens"):
        Trie([(RULE,), prompt])


def test_nothing_requested_is_nothing_computed():
    trie = Trie([], kept=[(RULE,)])

    assert (trie.nodes, trie.prompts, trie.naive, trie.shared, trie.levels) == ((), 0, 0, 0, [])


def test_a_prompt_of_many_thousand_segments_is_one_node():
    [node] = Trie([[(number,) for number in range(20_000)]]).nodes

    assert node.length == 20_000


@given(prompts=PROMPTS, kept=BEGINNINGS)
def test_every_beginning_is_counted_once_and_what_is_kept_not_at_all(prompts, kept):
    trie = Trie(prompts, kept=kept)

    assert trie.naive == sum(len(segment) for prompt in prompts for segment in prompt)
    assert trie.shared == sum(len(path[-1]) for path in paths(prompts) - paths(kept))
    assert trie.distinct == len({tuple(filter(None, prompt)) for prompt in prompts})


@given(prompts=PROMPTS, kept=BEGINNINGS)
def test_executing_the_nodes_in_order_writes_every_prompt(prompts, kept):
    trie = Trie(prompts, kept=kept)

    written: list[tuple] = []  # the tokens up to and with each node
    for index, node in enumerate(trie.nodes):
        assert node.parent is None or node.parent < index
        before = () if node.parent is None else written[node.parent]
        own = tuple(token for segment in node.segments for token in segment)
        assert (node.start, node.length) == (len(before), len(own))
        assert node.level == len(trie.ancestors(index))
        written.append(before + own)

    for prompt, end in zip(prompts, trie.ends, strict=True):
        assert written[end] == tuple(token for segment in prompt for token in segment)
    assert [index for level in trie.levels for index in level] == list(range(len(trie.nodes)))


@given(prompts=PROMPTS)
def test_a_node_ends_only_where_prompts_part_or_end(prompts):
    trie = Trie(prompts)

    for index, node in enumerate(trie.nodes):
        following = [other for other in trie.nodes if other.parent == index]
        assert node.requests or len(following) > 1
        assert len({other.segments[0] for other in following}) == len(following)
