"""Native kernels inside an encoder: the scores of the plain loop, and the same bits whatever the batch."""

from __future__ import annotations

import random

import pytest
import torch
from encoder_models import agree, classifier, pair_of, plain, random_pairs

from rerank.engine.encoder import Encoder
from rerank.kernels import native

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.status()}")

NAMES = ["bert", "electra", "xlm-roberta", "modernbert mean"]


@pytest.mark.parametrize("name", NAMES)
def test_scores_equal_the_plain_loop_whatever_the_batch(name):
    model = classifier(name, wide=True)
    pairs = random_pairs(9, seed=5, longest=300)
    expected = plain(model, pairs)
    encoder = Encoder(model)
    assert encoder.execution.endswith("native attention")

    whole = encoder.score(pairs).logits
    alone = torch.cat([encoder.score([pair]).logits for pair in pairs])
    shuffled = encoder.score([*pairs[::-1], pair_of(400, random.Random(1))]).logits
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    others = encoder.score(pairs).logits
    torch.set_num_threads(threads)

    agree(whole, expected)
    assert torch.equal(whole, alone)
    assert torch.equal(whole.flip(0), shuffled[:-1])
    assert torch.equal(whole, others)


def test_without_native_kernels_scores_are_the_same_within_rounding(monkeypatch):
    pairs = random_pairs(5, seed=6, longest=100)
    with_kernels = Encoder(classifier("bert", wide=True)).score(pairs).logits

    monkeypatch.setenv("RERANK_NATIVE", "0")
    encoder = Encoder(classifier("bert", wide=True))

    assert "native" not in encoder.execution
    agree(encoder.score(pairs).logits, with_kernels)


def test_heads_of_other_sizes_attend_text_by_text():
    assert "native" not in Encoder(classifier("bert")).execution
