"""The CPU's ways of attending to sets give what the definition gives."""

from __future__ import annotations

import pytest
import torch
from attention_cases import qkv, starts

from rerank.kernels import native
from rerank.kernels.set_attention import first_token_set_attention, set_attention

SETS = {
    "two queries": ([17, 2, 16, 9, 3], [3, 2], 1),
    "one document": ([20], [1], 1),
    "documents too short to be seen": ([5, 1, 70, 1, 30], [4, 1], 1),
    "more documents than a block of keys": ([3 + place % 5 for place in range(150)], [150], 0),
    "a long document among many": ([2] * 40 + [700] + [3] * 40, [81], 1),
}
PROVIDERS = [
    "by document",
    pytest.param("native", marks=pytest.mark.skipif(native.library() is None, reason=native.status())),
]


@pytest.mark.parametrize("dim", [32, 64])
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_providers_agree_with_the_reference(provider, name, dim):
    torch.manual_seed(0)
    lengths, sets, interaction = SETS[name]
    q, k, v = qkv(sum(lengths), 3, 3, dim, torch.float32)
    where = (starts(lengths), max(lengths), starts(sets))
    options = {"interaction": interaction, "scale": 0.3}

    for op, queries in ((set_attention, q), (first_token_set_attention, q[: len(lengths)])):
        assert op.providers[provider].supports(queries, k, v, *where, **options)
        got = op.providers[provider].run(queries, k, v, *where, **options)

        torch.testing.assert_close(
            got, op.providers["reference"].run(queries, k, v, *where, **options), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_documents_bits_do_not_depend_on_other_sets(provider):
    torch.manual_seed(0)
    lengths = [40, 7, 65, 20, 100]
    q, k, v = qkv(sum(lengths), 2, 2, 32, torch.float32)
    run = set_attention.providers[provider].run

    together = run(q, k, v, starts(lengths), 100, starts([3, 2]))
    alone = run(q[:112], k[:112], v[:112], starts(lengths[:3]), 65, starts([3]))

    assert torch.equal(together[:112], alone)
