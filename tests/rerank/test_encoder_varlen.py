"""The GPU's pass, run on the CPU by the kernels' references: rounded sizes, empty texts and filler change no score."""

from __future__ import annotations

import random

import pytest
import torch
from encoder_models import OPTIONS, agree, classifier, pair_of, plain, random_pairs
from hypothesis import given
from hypothesis import strategies as st

from rerank.engine.encoder import Encoder
from rerank.engine.encoders.families import FAMILIES
from rerank.engine.encoders.varlen import FEWEST_ROWS, fixed_sizes, rounded_rows, sizes_of
from rerank.errors import InputError, UnknownName

KNOWN = [name for name in OPTIONS if name.split()[0] in FAMILIES]
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("name", KNOWN)
def test_scores_equal_the_plain_loop(name):
    model = classifier(name)
    pairs = random_pairs(12, seed=random.randrange(2**32), longest=200)
    expected = plain(model, pairs)

    encoder = Encoder(model, mode="varlen")
    got = torch.cat([encoder.score(pairs[:5]).logits, encoder.score(pairs[5:]).logits])

    agree(got, expected)
    assert encoder.execution == "varlen"


def test_fixed_sizes_split_batches_and_let_a_long_text_alone():
    model = classifier("bert")
    pairs = [*random_pairs(40, seed=3, longest=60), pair_of(500, random.Random(2))]
    expected = plain(model, pairs)

    encoder = Encoder(model, mode="varlen", deterministic=True, rows=300)
    scored = encoder.score(pairs)

    agree(scored.logits, expected)
    rows = fixed_sizes(300, 600).rows
    assert encoder.execution == f"varlen, deterministic, {rows} rows"
    assert (scored.padded + sum(len(pair.ids) for pair in pairs) - sizes_of([500]).rows) % rows == 0


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=200))
def test_sizes_hold_what_they_are_for(lengths):
    sizes = sizes_of(lengths)

    real = sum(lengths)
    assert sizes.rows > real
    assert sizes.rows <= max(FEWEST_ROWS, (real + 1) * 9 / 8 + 1)
    assert sizes.texts >= len(lengths)
    assert sizes.longest >= max(lengths)
    assert rounded_rows(sizes.rows) == sizes.rows


def test_few_sizes_serve_all_batches():
    assert len({rounded_rows(rows) for rows in range(1, 65_537)}) == 65


def test_what_was_computed_is_counted():
    encoder = Encoder(classifier("bert"), mode="varlen")
    choice = random.Random(1)

    scored = encoder.score([pair_of(100, choice), pair_of(60, choice)])

    sizes = sizes_of([100, 60])
    layer = 4 * 32 * 32 + 2 * 32 * 48
    inward = 3 * 32 * 32  # the last layer's queries, keys and values are one product, its attention one call
    tokens = (2 * layer + inward) * sizes.rows
    texts = (layer - inward + 32 * 32 + 32) * sizes.texts
    assert scored.padded == sizes.rows - 160
    assert scored.flops == 2 * (tokens + texts) + 3 * 4 * 32 * (100**2 + 60**2)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("bert", {"mode": "varlne"}, UnknownName, "did you mean 'varlen'"),
        ("albert", {"mode": "packed"}, InputError, "must be run by its own forward: albert is not known here"),
        ("albert", {"compile": True}, InputError, "no effect on a model that is run single"),
        ("bert", {"mode": "stock", "deterministic": True}, InputError, "pads a text as its batch needs it"),
        ("bert", {"compile": True, "deterministic": True}, InputError, "may change the last bits"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, error, message):
    with pytest.raises(error, match=message):
        Encoder(classifier(name), **options)


def test_half_precision_on_the_cpu_is_not_called_deterministic():
    with pytest.raises(InputError, match="needs float32 on the CPU"):
        Encoder(classifier("bert").bfloat16(), deterministic=True)
    assert Encoder(classifier("bert"), deterministic=True).execution.startswith("packed")


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("albert", {}, "albert is not known here"),
        ("bert", {"is_decoder": True}, "it attends as a decoder"),
        ("bert", {"quantization_config": {}}, "its weights are quantised"),
        ("deberta-v2 with a convolution", {"conv_groups": 2}, "its convolution has 3 neighbours in 2 groups"),
        ("deberta-v2", {"relative_attention": False}, "it scales for positions that it has not"),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "dynamic"}}}, "depends on the longest"),
    ],
)
def test_the_reason_for_a_models_own_forward_stands_in_the_ledger(name, config, reason):
    model = classifier(name)
    for option, value in config.items():
        setattr(model.config, option, value)

    assert reason in Encoder(model).execution


# -- on a GPU ----------------------------------------------------------------------------------------------------------


def on_gpu(name: str, **options: object) -> Encoder:
    return Encoder(classifier(name, wide=True).cuda(), **options)


@cuda
@pytest.mark.parametrize("name", KNOWN)
def test_recorded_passes_give_the_scores_of_the_plain_loop(name):
    pairs = random_pairs(24, seed=5, longest=200)
    expected = plain(classifier(name, wide=True), pairs)
    encoder = on_gpu(name)

    runs = [encoder.score(pairs).logits for _ in range(4)]  # eagerly, recorded, replayed

    assert encoder.execution == "varlen, CUDA graphs"
    torch.testing.assert_close(runs[0], expected, rtol=0, atol=1e-3)
    assert all(torch.equal(run, runs[0]) for run in runs)


@cuda
def test_graphs_change_no_bit_and_are_bounded():
    encoder, plainly = on_gpu("bert"), on_gpu("bert", graphs=False)
    encoder.forward_pass.graphs.most = 2
    batches = [random_pairs(count, seed=count) for count in (4, 9, 30, 4, 9, 30, 4, 9, 30)]

    for batch in batches:
        assert torch.equal(encoder.score(batch).logits, plainly.score(batch).logits)
    assert plainly.execution == "varlen"


@cuda
def test_deterministic_bits_do_not_depend_on_batch_order_or_neighbours():
    encoder = Encoder(classifier("bert", wide=True).bfloat16().cuda(), deterministic=True, rows=4096)
    pairs = random_pairs(24, seed=11, longest=200)
    order = random.Random(4).sample(range(24), 24)

    whole = encoder.score(pairs).logits

    assert torch.equal(whole, torch.cat([encoder.score([pair]).logits for pair in pairs]))
    assert torch.equal(whole[order], encoder.score([pairs[index] for index in order]).logits)
