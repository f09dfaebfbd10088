"""Each way of running a classifier gives the scores of the plain one: its own forward, one unpadded text at a time."""

from __future__ import annotations

import os
import random

import pytest
import torch
import transformers
from encoder_models import OPTIONS, agree, classifier, pair_of, plain, random_pairs
from torch import nn

from rerank.engine import linear
from rerank.engine.encoder import HEAD_ROWS, Encoder
from rerank.engine.encoders.families import FAMILIES
from rerank.errors import CheckpointError

INPUTS = int(os.environ.get("RERANK_TEST_INPUTS", "14"))
"""Random texts for each family; 200 take minutes."""


def test_every_family_is_tried_here():
    assert set(FAMILIES) <= {name.split()[0] for name in OPTIONS}


@pytest.mark.parametrize("name", OPTIONS)
def test_scores_equal_the_plain_loop(name):
    model = classifier(name)
    pairs = random_pairs(INPUTS, seed=random.randrange(2**32))
    expected = plain(model, pairs)

    encoder = Encoder(model)
    got = torch.cat([encoder.score(pairs[at : at + 6]).logits for at in range(0, INPUTS, 6)])

    agree(got, expected)
    assert encoder.mode == ("packed" if name.split()[0] in FAMILIES else "single")


@pytest.mark.parametrize("name", [name for name in OPTIONS if not name.startswith("deberta-v2 ")])
def test_padded_scores_equal_the_plain_loop(name):
    model = classifier(name)
    pairs = random_pairs(12, seed=random.randrange(2**32))
    expected = plain(model, pairs)
    if name.split()[0] not in ("deberta-v2", "mpnet"):
        model.set_attn_implementation("sdpa")

    encoder = Encoder(model, mode="padded" if name.split()[0] in FAMILIES else "stock")
    got = torch.cat([encoder.score(pairs[:5]).logits, encoder.score(pairs[5:]).logits])

    agree(got, expected)


@pytest.mark.parametrize("name", OPTIONS)
def test_bits_do_not_depend_on_batch_order_neighbours_or_threads(name):
    encoder = Encoder(classifier(name))
    pairs = random_pairs(24, seed=11, longest=200)
    neighbour = pair_of(500, random.Random(3))
    order = random.Random(4).sample(range(24), 24)
    threads = torch.get_num_threads()

    whole = encoder.score(pairs).logits
    alone = torch.cat([encoder.score([pair]).logits for pair in pairs])
    shuffled = encoder.score([pairs[index] for index in order]).logits
    beside = encoder.score([pairs[0], neighbour, *pairs[1:]]).logits
    torch.set_num_threads(1)
    single = encoder.score(pairs).logits
    torch.set_num_threads(threads)

    assert torch.equal(whole, alone)
    assert torch.equal(whole[order], shuffled)
    assert torch.equal(whole, torch.cat([beside[:1], beside[2:]]))
    assert torch.equal(whole, single)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", ["bert", "modernbert", "mpnet", "deberta-v2"])
def test_texts_of_one_length_share_calls_and_keep_their_bits(name, wide):
    encoder = Encoder(classifier(name, wide=wide))
    choice = random.Random(6)
    pairs = [pair_of(length, choice) for length in (30, 64, 64, 64, 64, 64, 30, 128, 128, 128, 1, 1, 1)]

    whole = encoder.score(pairs).logits

    assert torch.equal(whole, torch.cat([encoder.score([pair]).logits for pair in pairs]))


@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_a_decoder_is_no_cross_encoder(name):
    config = transformers.AutoConfig.for_model(
        name, vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=16, head_dim=8, num_labels=1, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()

    with pytest.raises(CheckpointError, match="last token of a prompt"):
        Encoder(model)


def test_what_was_computed_is_counted():
    encoder = Encoder(classifier("bert"))
    choice = random.Random(1)
    pairs = [pair_of(100, choice), pair_of(60, choice)]

    scored = encoder.score(pairs)

    rows = 160 + scored.padded
    layer = 4 * 32 * 32 + 2 * 32 * 48  # query, key, value, output; up and down
    attention = 4 * 32 * (100**2 + 60**2)  # scores and values: two multiply-adds for each pair of tokens and channel
    last = 2 * (2 * 32 * 32) * rows + 4 * 32 * (100 + 60) + 2 * (layer - 2 * 32 * 32) * HEAD_ROWS  # for first tokens
    head = 32 * 32 + 32
    assert scored.padded == rows - 160 < 32
    assert scored.flops == 2 * (2 * layer * rows + attention) + last + 2 * head * HEAD_ROWS


def test_padded_passes_count_their_rectangle():
    model = classifier("bert")
    encoder = Encoder(model, mode="padded")
    choice = random.Random(1)

    scored = encoder.score([pair_of(100, choice), pair_of(60, choice)])

    layer, head = 4 * 32 * 32 + 2 * 32 * 48, 32 * 32 + 32
    assert scored.padded == 40
    assert scored.flops == 3 * (2 * layer * 200 + 4 * 32 * 2 * 100**2) + 2 * head * HEAD_ROWS


def test_local_attention_counts_what_it_sees():
    model = classifier("modernbert")
    assert model.config.layer_types == ["full_attention", "sliding_attention", "full_attention"]
    encoder = Encoder(model)
    length, window = 300, 16
    seen = sum(abs(one - two) <= window for one in range(length) for two in range(length))

    scored = encoder.score([pair_of(length, random.Random(1))])

    rows = length + scored.padded
    layer = 4 * 32 * 32 + 3 * 32 * 48  # query, key, value, output; up twice for the gate, and down
    last = 2 * (2 * 32 * 32) * rows + 4 * 32 * length + 2 * (layer - 2 * 32 * 32) * HEAD_ROWS  # for first tokens
    head = 32 * 32 + 32
    assert scored.flops == 2 * 2 * layer * rows + 4 * 32 * (length**2 + seen) + last + 2 * head * HEAD_ROWS


def test_means_need_every_layer_whole():
    scored = Encoder(classifier("modernbert mean")).score([pair_of(20, random.Random(1))])

    rows = 20 + scored.padded
    layer, head = 4 * 32 * 32 + 3 * 32 * 48, 32 * 32 + 32
    seen = sum(abs(one - two) <= 16 for one in range(20) for two in range(20))
    assert scored.flops == 2 * 3 * layer * rows + 4 * 32 * (2 * 20**2 + seen) + 2 * head * HEAD_ROWS


def test_positions_of_deberta_are_counted():
    scored = Encoder(classifier("deberta-v2")).score([pair_of(50, random.Random(1))])

    rows = 50 + scored.padded
    layer, head = 4 * 32 * 32 + 2 * 32 * 48, 32 * 32 + 32
    attention = 4 * 32 * 50**2 + 2 * 2 * 32 * 50 * 99  # two products with each of 99 distances
    last = 2 * (2 * 32 * 32) * rows + (4 + 4) * 32 * 50 + 2 * (layer - 2 * 32 * 32) * HEAD_ROWS
    assert scored.flops == 2 * 2 * layer * rows + 2 * attention + last + 2 * head * HEAD_ROWS


def test_a_pass_without_fused_layers_keeps_to_the_rows_that_the_blas_needs(monkeypatch):
    monkeypatch.setattr(linear, "available", lambda model: False)
    model = classifier("bert")
    pairs = random_pairs(20, seed=5, longest=100)
    expected = plain(model, pairs)
    encoder = Encoder(model)

    whole = encoder.score(pairs).logits
    alone = [encoder.score([pair]) for pair in pairs]

    agree(whole, expected)
    assert encoder.execution == "packed"
    assert torch.equal(whole, torch.cat([scored.logits for scored in alone]))
    assert alone[0].padded >= linear.SAFE_ROWS - 1


@pytest.mark.skipif(not linear.available(classifier("bert")), reason="needs oneDNN on an x86 CPU")
@pytest.mark.parametrize(("wide", "out"), [(384, 384), (384, 1536), (1536, 384), (48, 32), (100, 60)])
def test_a_fused_layer_gives_a_row_the_same_bits_among_any_number_of_rows(wide, out):
    torch.manual_seed(wide)
    layer = nn.Linear(wide, out)
    fused = linear.FusedLinear(layer, "gelu")
    rows = torch.randn(700, wide)

    with torch.inference_mode():
        whole = fused(rows)
        torch.testing.assert_close(whole, nn.functional.gelu(layer(rows)), rtol=0, atol=1e-5)
        for count in (linear.FEWEST_ROWS, 65, 100, 127, 256, 513, 699):
            assert torch.equal(fused(rows[:count].clone()), whole[:count])


def test_half_precision_keeps_its_head_in_float32():
    model = classifier("electra").bfloat16()

    encoder = Encoder(model)
    logits = encoder.score(random_pairs(50, seed=1)).logits

    assert model.classifier.out_proj.weight.dtype == torch.float32
    assert logits.dtype == torch.float32
    assert len(set(logits.flatten().tolist())) == 50  # a bfloat16 head would make ties


def test_a_packed_pass_that_changes_scores_is_refused_at_load(monkeypatch):
    from rerank.engine.encoders.attention import TextAttention

    monkeypatch.setattr(TextAttention, "forward", lambda self, q, k, v, row: v.flatten(1))
    with pytest.raises(CheckpointError, match="packed attention changes the outputs"):
        Encoder(classifier("bert"))
