"""The attention references against plain loops and transformers' own modules; who computes what, where."""

from __future__ import annotations

import os
import runpy
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from attention_cases import qkv, starts
from kernel_harness import DEVICE, HAS_TRITON, poison_new_memory
from torch.nn.functional import scaled_dot_product_attention

from rerank.kernels.attention_mass import attention_mass
from rerank.kernels.disentangled_attention import disentangled_attention
from rerank.kernels.disentangled_attention.reference import position_rows
from rerank.kernels.prefix_attention import prefix_attention
from rerank.kernels.set_attention import set_attention
from rerank.kernels.varlen_attention import varlen_attention

ATTENTION = ["varlen_attention", "prefix_attention", "set_attention", "attention_mass", "disentangled_attention"]


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def plain(q, k, v, visible):
    """One sequence through torch's own attention; `visible(query, key)` says it place by place."""
    mask = torch.tensor([[visible(i, j) for j in range(len(k))] for i in range(len(q))])
    q, k, v = (part.transpose(0, 1)[None] for part in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)[0].transpose(0, 1)


@pytest.mark.parametrize(
    ("options", "visible"),
    [
        ({}, lambda i, j: True),
        ({"causal": True}, lambda i, j: j <= i),
        ({"window": 2}, lambda i, j: -2 <= i - j <= 2),
        ({"window": 2, "causal": True}, lambda i, j: 0 <= i - j <= 2),
    ],
    ids=["all", "causal", "window", "window, causal"],
)
def test_packed_sequences_do_not_see_each_other(options, visible):
    lengths = [5, 1, 0, 9]
    q, k, v = qkv(15, 4, 2, 8, torch.float32)

    got = varlen_attention(q, k, v, starts(lengths), 9, **options)

    alone = [plain(q[a:b], k[a:b], v[a:b], visible) for a, b in [(0, 5), (5, 6), (6, 15)]]
    close(got, torch.cat(alone))


def test_capped_scores_are_those_of_gemma_2():
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    q, k, v = qkv(7, 4, 2, 8, torch.float32)
    module = SimpleNamespace(num_key_value_groups=2, training=False, head_dim=8)
    causal = torch.full((7, 7), float("-inf")).triu(1)
    parts = [part.transpose(0, 1)[None] for part in (q, k, v)]

    got = varlen_attention(q, k, v, starts([7]), 7, causal=True, scale=0.3, cap=1.5)

    close(got, eager_attention_forward(module, *parts, causal, scaling=0.3, softcap=1.5)[0][0])


@pytest.mark.parametrize("decoder", [False, True])
def test_the_position_bias_is_that_of_t5(decoder):
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(
        d_model=16, d_kv=8, num_heads=2, relative_attention_num_buckets=8, relative_attention_max_distance=20,
        is_decoder=decoder,
    )  # fmt: skip
    module = T5Attention(config, has_relative_attention_bias=True, layer_idx=0).eval()
    module.o = torch.nn.Identity()
    states = torch.randn(40, 16)
    mask = torch.full((1, 1, 40, 40), float("-inf")).triu(1) if decoder else None

    with torch.no_grad():
        q, k, v = (part(states).view(40, 2, 8) for part in (module.q, module.k, module.v))
        table = module.relative_attention_bias.weight.T
        got = varlen_attention(
            q, k, v, starts([40]), 40, causal=decoder, scale=1.0, bias=table, max_distance=20
        )  # fmt: skip
        expected = module(states[None], mask=mask)[0]

    close(got, expected[0].view(40, 2, 8))


def test_gradients_flow_to_every_input_of_the_reference():
    q, k, v = (part.clone().requires_grad_() for part in qkv(6, 2, 2, 8, torch.float32))
    bias = torch.randn(2, 8, requires_grad=True)

    got = varlen_attention(q, k, v, starts([4, 2]), 4, bias=bias).square().sum()

    gradients = torch.autograd.grad(got, (q, k, v, bias))
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in gradients)


def test_states_over_parts_of_the_keys_merge_by_their_log_sum_exp():
    q, k, v = qkv(4, 2, 2, 8, torch.float32)
    _, pool_k, pool_v = qkv(9, 2, 2, 8, torch.float32)
    path = torch.tensor([[[0, 9]]])
    nothing = torch.zeros(1, 1, 2, dtype=torch.int64)

    whole, whole_log = prefix_attention(q, k, v, starts([4]), 4, pool_k, pool_v, path, return_lse=True)
    own, own_log = prefix_attention(q, k, v, starts([4]), 4, pool_k, pool_v, nothing, return_lse=True)

    to_pool = torch.einsum("qhd,khd->hqk", q, pool_k) / 8**0.5
    pool, pool_log = torch.einsum("hqk,khd->qhd", to_pool.softmax(-1), pool_v), to_pool.logsumexp(-1).T
    close(whole_log, torch.logaddexp(own_log, pool_log))
    close(whole, own * (own_log - whole_log).exp()[..., None] + pool * (pool_log - whole_log).exp()[..., None])


@pytest.mark.parametrize("window", [None, 6])
def test_a_suffix_sees_its_path_as_if_the_path_were_its_own(window):
    lengths, paths = [3, 4], [[(2, 5), (9, 3)], [(2, 5), (0, 0)]]
    q, k, v = qkv(7, 4, 2, 8, torch.float32)
    _, pool_k, pool_v = qkv(12, 4, 2, 8, torch.float32)

    got = prefix_attention(q, k, v, starts(lengths), 4, pool_k, pool_v, torch.tensor(paths), window=window)

    for own, shared in [(slice(0, 3), [*range(2, 7), *range(9, 12)]), (slice(3, 7), [*range(2, 7)])]:
        ahead = len(shared)
        keys, values = torch.cat([pool_k[shared], k[own]]), torch.cat([pool_v[shared], v[own]])
        far = 99 if window is None else window
        close(got[own], plain(q[own], keys, values, lambda i, j, ahead=ahead, far=far: 0 <= i + ahead - j <= far))


def test_documents_see_one_token_of_each_other_document_of_their_query():
    q, k, v = qkv(9, 2, 2, 8, torch.float32)  # documents 0-3, 4-5, 6-8; the first two are one query's

    got = set_attention(q, k, v, starts([4, 2, 3]), 4, starts([2, 1]))

    seen = {0: [0, 1, 2, 3, 5], 4: [4, 5, 1], 6: [6, 7, 8]}
    sizes = {0: 4, 4: 2, 6: 3}
    alone = [plain(q[a : a + sizes[a]], k[keys], v[keys], lambda i, j: True) for a, keys in seen.items()]
    close(got, torch.cat(alone))


def test_the_order_of_documents_changes_nothing():
    documents = [[part.clone() for part in qkv(length, 2, 2, 8, torch.float32)] for length in (4, 2, 3)]
    order = [2, 0, 1]

    def attend(documents):
        lengths = [len(q) for q, _, _ in documents]
        packed = (torch.cat(parts) for parts in zip(*documents, strict=True))
        return set_attention(*packed, starts(lengths), 4, starts([3])).split(lengths)

    before, after = attend(documents), attend([documents[index] for index in order])

    for place, index in enumerate(order):
        close(after[place], before[index])


def test_mass_is_what_the_attention_weights_of_a_model_sum_to():
    from transformers.models.llama.modeling_llama import eager_attention_forward

    q, k, v = qkv(12, 4, 2, 8, torch.float32)  # 9 tokens of context, 3 of the query
    causal = torch.full((12, 12), float("-inf")).triu(1)
    module = SimpleNamespace(num_key_value_groups=2, training=False)
    parts = [part.transpose(0, 1)[None] for part in (q, k, v)]

    every = attention_mass(q[9:], k[9:], k[:9])
    documents = attention_mass(q[9:], k[9:], k[:9], torch.tensor([[0, 4], [5, 9]]))

    weights = eager_attention_forward(module, *parts, causal, scaling=8**-0.5)[1]  # [1, heads, queries, keys]
    expected = weights[0, :, 9:, :9].sum((0, 1))
    close(every, expected)
    close(documents, torch.stack([expected[0:4].sum(), expected[5:9].sum()]))


def deberta(**options):
    from transformers import DebertaV2Config
    from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

    config = DebertaV2Config(
        hidden_size=16, num_attention_heads=2, relative_attention=True, max_position_embeddings=40, **options
    )
    return DisentangledSelfAttention(config).eval()


@pytest.mark.parametrize(
    "options",
    [
        {"pos_att_type": ["c2p", "p2c"], "position_buckets": 8, "share_att_key": True},
        {"pos_att_type": ["c2p", "p2c"], "position_buckets": 8},
        {"pos_att_type": ["c2p", "p2c"], "position_buckets": -1, "max_relative_positions": 12},
        {"pos_att_type": ["c2p"], "position_buckets": 8},
        {"pos_att_type": ["p2c"], "position_buckets": 8},
        {"pos_att_type": [], "position_buckets": 8},
    ],
    ids=str,
)
def test_disentangled_attention_is_that_of_transformers(options):
    module = deberta(**options)
    table = torch.randn(2 * module.pos_ebd_size, 16)
    states = torch.randn(33, 16)
    shared = module.share_att_key

    with torch.no_grad():
        q, k, v = (part(states).view(33, 2, 8) for part in (module.query_proj, module.key_proj, module.value_proj))
        to_key = module.key_proj if shared else getattr(module, "pos_key_proj", None)
        to_query = module.query_proj if shared else getattr(module, "pos_query_proj", None)
        positions = [None if part is None else part(table).view(-1, 2, 8) for part in (to_key, to_query)]
        got = disentangled_attention(
            q, k, v, *positions, starts([3, 30]), 30,
            buckets=module.position_buckets, max_distance=module.max_relative_positions,
        )  # fmt: skip
        alone = [
            module(part[None], torch.ones(1, 1, len(part), len(part)), rel_embeddings=table)[0][0]
            for part in states.split([3, 30])
        ]

    close(got, torch.cat(alone).view(33, 2, 8))


@pytest.mark.parametrize(("buckets", "max_distance"), [(256, 512), (8, 40), (32, 128)])
def test_no_distance_falls_into_another_bucket_than_in_transformers(buckets, max_distance):
    from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

    states = torch.empty(1, 700, 1)

    rows = position_rows(700, buckets, max_distance)

    theirs = build_relative_position(states, states, buckets, max_distance)[0] + buckets  # [queries, keys]
    places = torch.arange(700)
    assert torch.equal(rows[places[:, None] - places[None, :] + 699], theirs.clamp(0, 2 * buckets - 1))


@pytest.mark.parametrize("name", ATTENTION)
def test_without_triton_the_reference_stands(name, monkeypatch):
    module = import_module(f"rerank.kernels.{name}")
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)

    alone = runpy.run_path(str(Path(module.__file__)))

    assert "triton" not in alone[name].providers


@pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
def test_kernels_are_for_gpus_and_for_where_no_gradient_is_wanted():
    q, k, v = (part.to(DEVICE) for part in qkv(3, 2, 2, 32, torch.float32))
    ends = starts([3]).to(DEVICE)

    at_hand = DEVICE == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
    assert (varlen_attention.pick(q, k, v, ends, 3).name == "triton") == at_hand
    assert varlen_attention.pick(*(part[..., :31] for part in (q, k, v)), ends, 3).name == "reference"
    assert set_attention.pick(q.requires_grad_(), k, v, ends, 3, ends).name == "reference"


def test_poison_shows_what_is_never_written(monkeypatch):
    poison_new_memory(monkeypatch)

    assert torch.empty(2).isnan().all()
    assert torch.zeros(2).new_empty(2, dtype=torch.int32).tolist() == [-(2**31)] * 2


def test_the_example_of_the_page_runs():
    page = (Path(__file__).resolve().parents[2] / "docs/kernels.md").read_text(encoding="utf-8")
    left = {}

    exec(page.partition("```python\n")[2].partition("```")[0], left)

    assert left["provider"] in varlen_attention.providers
    close(left["output"], left["defined"])
