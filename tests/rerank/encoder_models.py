"""Small encoders with random weights, texts for them, and what transformers itself makes of these."""

from __future__ import annotations

import random
from typing import Any

import torch
import transformers
from torch import nn

from rerank.engine.tokens import Pair

SMALL = {
    "vocab_size": 200,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 600,
    "num_labels": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "cls_token_id": 0,
    "sep_token_id": 2,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "bert": {"type_vocab_size": 2},
    "electra": {"type_vocab_size": 2, "embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "seq_classif_dropout": 0.1},
    "roberta": {"type_vocab_size": 1},
    "camembert": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
    "modernbert": {"local_attention": 32, "global_attn_every_n_layers": 2, "classifier_pooling": "cls"},
    "modernbert mean": {"local_attention": 32, "global_attn_every_n_layers": 2, "classifier_pooling": "mean"},
    "bert with two logits": {"type_vocab_size": 2, "num_labels": 2},
    "deberta-v2": {
        "type_vocab_size": 0,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
    },
    "deberta-v2 without buckets": {"position_buckets": -1, "pos_att_type": ["c2p"], "max_relative_positions": 40},
    "deberta-v2 own projections": {"pos_att_type": "p2c|c2p", "share_att_key": False, "position_biased_input": False},
    "deberta-v2 with a convolution": {"conv_kernel_size": 3, "conv_act": "gelu", "embedding_size": 16},
    "deberta-v2 without positions": {"relative_attention": False, "pos_att_type": [], "type_vocab_size": 2},
    "mpnet": {},
    "albert": {"embedding_size": 16, "type_vocab_size": 2},
}


def options_of(name: str, *, wide: bool = False) -> dict[str, Any]:
    family = name.split()[0]
    sizes = {"hidden_size": 128, **({"dim": 128} if family == "distilbert" else {})} if wide else {}
    return SMALL | OPTIONS.get(family, {}) | OPTIONS[name] | sizes


def classifier(name: str, *, wide: bool = False) -> Any:
    """A small classifier with random weights that tells texts apart; wide: with heads of 32, as kernels want."""
    transformers.set_seed(7)
    config = transformers.AutoConfig.for_model(name.split()[0], **options_of(name, wide=wide))
    model = transformers.AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.15)
    return model


def random_pairs(count: int, *, seed: int, longest: int = 512) -> list[Pair]:
    choice = random.Random(seed)
    lengths = [1, 2, longest, *(choice.randint(1, longest) for _ in range(count - 3))]
    return [pair_of(length, choice) for length in lengths]


def pair_of(length: int, choice: random.Random) -> Pair:
    ids = [choice.randint(5, 199) for _ in range(length)]
    cut = choice.randint(0, length)
    return Pair.of(ids, [0] * cut + [1] * (length - cut))


@torch.inference_mode()
def plain(model: Any, pairs: list[Pair]) -> torch.Tensor:
    """What transformers itself says, in eager attention, text by text."""
    typed = getattr(model.config, "type_vocab_size", 0) > 1 and model.config.model_type != "modernbert"
    rows = []
    for pair in pairs:
        types = {"token_type_ids": torch.from_numpy(pair.types)[None]} if typed else {}
        rows.append(model(input_ids=torch.from_numpy(pair.ids)[None], **types).logits)
    return torch.cat(rows)


def agree(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 1e-2, "a model that tells nothing apart proves nothing"
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
