"""Parts of a batch side by side: which, and the same bits as one after the other."""

from __future__ import annotations

import random

import pytest
import torch
from encoder_models import classifier, pair_of
from hypothesis import given
from hypothesis import strategies as st
from transformers import T5Config, T5ForConditionalGeneration

from rerank.engine.encoder import Encoder
from rerank.engine.seq2seq import EncoderDecoder
from rerank.engine.streams import FEWEST, PART, parts_of, side_by_side
from rerank.kernels import native


@given(lengths=st.lists(st.integers(1, 512), max_size=200), threads=st.integers(1, 16))
def test_parts_hold_every_text_once_and_in_order_and_are_about_equal(lengths, threads):
    parts = parts_of(lengths, threads)

    assert [index for part in parts for index in range(len(lengths))[part]] == list(range(len(lengths)))
    sums = [sum(lengths[part]) for part in parts]
    if len(parts) > 1:
        assert sum(lengths) >= threads * FEWEST
        assert max(sums) <= sum(lengths) / len(parts) + 2 * max(lengths) <= PART + 2 * max(lengths)
    elif threads > 1:
        assert sum(lengths) < threads * FEWEST


def test_each_part_has_one_thread_and_the_rest_of_the_process_keeps_its_own():
    threads = torch.get_num_threads()

    inside = side_by_side(lambda _: torch.get_num_threads(), range(8), 2)

    assert inside == [1] * 8
    assert torch.get_num_threads() == threads


def test_what_fails_in_a_part_fails_the_batch():
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda number: 1 / number, [1, 0], 2)


@pytest.mark.skipif(native.library() is None, reason=f"no native kernels: {native.status()}")
@pytest.mark.parametrize("name", ["bert", "modernbert mean"])
def test_scores_have_the_same_bits_side_by_side_and_one_after_the_other(name):
    encoder, dice = Encoder(classifier(name, wide=True)), random.Random(3)
    pairs = [pair_of(dice.randint(1, 300), dice) for _ in range(24)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert len(parts_of([len(pair.ids) for pair in pairs], 2)) > 1
        together = encoder.score(pairs)
        torch.set_num_threads(1)
        alone = [encoder.score([pair]) for pair in pairs]
    finally:
        torch.set_num_threads(threads)

    assert torch.equal(together.logits, torch.cat([scored.logits for scored in alone]))


def test_a_t5_scores_the_same_bits_side_by_side_and_one_after_the_other():
    torch.manual_seed(0)
    shape = {"vocab_size": 99, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    engine = EncoderDecoder(T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0)).eval())
    dice = random.Random(4)
    texts = [[dice.randint(2, 98) for _ in range(dice.randint(1, 300))] for _ in range(24)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert len(parts_of(list(map(len, texts)), 2)) > 1
        together = engine.score(texts, [7, 9])
        torch.set_num_threads(1)
        alone = [engine.score([text], [7, 9]) for text in texts]
    finally:
        torch.set_num_threads(threads)

    assert torch.equal(together.logits, torch.cat([scored.logits for scored in alone]))
    assert together.tokens == sum(map(len, texts))
