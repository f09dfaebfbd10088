"""Backbones give the states that `AutoModel` gives, token by token or pooled, in every way of running them."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers
from encoder_models import OPTIONS, classifier, pair_of, random_pairs

from rerank.engine.encoders.embed import Embedder
from rerank.engine.encoders.families import FAMILIES
from rerank.errors import CheckpointError, UnknownName

KNOWN = [name for name in OPTIONS if name.split()[0] in FAMILIES and "logits" not in name and "mean" not in name]


def backbone(name: str) -> Any:
    return classifier(name).base_model


@torch.inference_mode()
def plain(model: Any, texts: list[Any]) -> list[torch.Tensor]:
    return [model(input_ids=torch.from_numpy(ids)[None]).last_hidden_state[0] for ids in texts]


WAYS = [(name, mode) for name in KNOWN for mode in (None, "varlen", "stock")] + [("albert", None)]


@pytest.mark.parametrize(("name", "mode"), WAYS)
def test_states_are_those_of_the_plain_backbone(name, mode):
    model = backbone(name)
    texts = [pair.ids for pair in random_pairs(7, seed=random.randrange(2**32), longest=80)]
    expected = plain(model, texts)

    embedded = Embedder(model, mode=mode).embed(texts)

    assert embedded.lengths == tuple(len(text) for text in texts)
    for got, states in zip(embedded.by_text(), expected, strict=True):
        torch.testing.assert_close(got, states, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "modernbert", "deberta-v2 with a convolution", "albert"])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_pooled_states_are_of_the_first_token_or_the_mean_of_all(name, pooling):
    model = backbone(name)
    texts = [pair.ids for pair in random_pairs(9, seed=4, longest=60)]
    expected = torch.stack([states[0] if pooling == "first" else states.mean(0) for states in plain(model, texts)])

    got = Embedder(model, pooling=pooling).embed(texts).states

    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_bits_do_not_depend_on_the_batch():
    embedder = Embedder(backbone("bert"))
    texts = [pair.ids for pair in random_pairs(12, seed=8, longest=90)]

    whole = embedder.embed(texts).by_text()

    assert all(torch.equal(embedder.embed([text]).states, states) for text, states in zip(texts, whole, strict=True))


def test_types_tell_a_pair_from_a_text():
    embedder = Embedder(backbone("bert"))
    pair = pair_of(20, random.Random(5))

    assert not torch.equal(embedder.embed([pair.ids]).states, embedder.embed([pair.ids], [pair.types]).states)


def test_first_tokens_cost_less_than_all():
    text = pair_of(100, random.Random(5)).ids

    every, first = (Embedder(backbone("bert"), pooling=pooling).embed([text]) for pooling in ("none", "first"))

    layer, rows = 4 * 32 * 32 + 2 * 32 * 48, 100 + every.padded
    assert every.flops == 3 * (2 * layer * rows + 4 * 32 * 100**2)
    assert first.flops < every.flops


def test_what_cannot_be_embedded_is_refused():
    config = transformers.AutoConfig.for_model(
        "t5", d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=9
    )

    with pytest.raises(CheckpointError, match="has a decoder"):
        Embedder(transformers.AutoModel.from_config(config).eval())
    with pytest.raises(UnknownName, match="did you mean 'mean'"):
        Embedder(backbone("bert"), pooling="meen")
