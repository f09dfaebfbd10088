"""The closed form of Peng et al. (2025), by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.engine.flops_estimate import Shape, estimated_flops
from rerank.errors import InputError

QWEN_7B = Shape(layers=28, width=3584, feed_forward=18_944, group=7)


def test_a_decoder_with_grouped_queries():
    """The example in the authors' repository: Qwen2.5-7B reads 200 tokens and writes one.

    N = 2·3584·28·((1 + 1/7)·3584 + 18944) = 4,624,220,160
    reading = 2·N·200 + 4·28·200²·3584/7 = 1,849,688,064,000 + 2,293,760,000
    writing = 2·N + 2·28·3584/7·(2·200) = 9,248,440,320 + 11,468,800
    """
    assert estimated_flops(QWEN_7B, 200, 1) == 1_861_241_733_120


def test_a_bert_that_writes_nothing_costs_its_linear_layers_and_its_attention():
    """MiniLM-L6: 6·(4·384² + 2·384·1536) weights, two operations each, and 4·6·384·n² for attention."""
    assert (
        estimated_flops(Shape(6, 384, 1536), 100) == 2 * 6 * (4 * 384**2 + 2 * 384 * 1536) * 100 + 4 * 6 * 384 * 100**2
    )


def test_an_encoder_decoder_of_one_step():
    """T5-base, 10 tokens: encoder 2·N·10 + 4·12·10²·768, keys and values 4·12·10·768², a step 2·N' + 2·12·768·20."""
    shape = Shape(12, 768, 3072, encoder_decoder=True)
    encoder, decoder = 2 * 768 * 12 * (2 * 768 + 3072), 2 * 768 * 12 * (3 * 768 + 3072)

    assert estimated_flops(shape, 10, 1) == (
        2 * encoder * 10 + 4 * 12 * 100 * 768 + 4 * 12 * 10 * 768**2 + 2 * decoder + 2 * 12 * 768 * 20
    )


@given(read=st.integers(0, 5000), written=st.integers(0, 500), more=st.integers(1, 100))
def test_more_tokens_cost_more(read, written, more):
    assert estimated_flops(QWEN_7B, read + more, written) > estimated_flops(QWEN_7B, read, written)
    assert estimated_flops(QWEN_7B, read, written + more) > estimated_flops(QWEN_7B, read, written)


def test_the_shape_stands_in_a_config():
    bert = SimpleNamespace(num_hidden_layers=6, hidden_size=384, intermediate_size=1536, num_attention_heads=12)
    t5 = SimpleNamespace(num_layers=12, d_model=768, d_ff=3072, num_heads=12, is_encoder_decoder=True)
    qwen = SimpleNamespace(
        num_hidden_layers=28, hidden_size=3584, intermediate_size=18_944, num_attention_heads=28, num_key_value_heads=4
    )

    assert Shape.of(bert) == Shape(6, 384, 1536)
    assert Shape.of(t5) == Shape(12, 768, 3072, encoder_decoder=True)
    assert Shape.of(qwen) == Shape.of(SimpleNamespace(text_config=qwen)) == QWEN_7B
    assert Shape.of(SimpleNamespace(hidden_size=384)) is None


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1, 0.5)])
def test_what_is_no_shape_is_refused(numbers):
    with pytest.raises(InputError, match="no model's shape"):
        Shape(*numbers)
