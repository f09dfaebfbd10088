"""The likelihood of continuations: transformers' loss with labels, whatever the batch; and states for other heads."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from rerank.engine.seq2seq import EncoderDecoder, TextEncoder
from rerank.engine.t5.model import FAMILIES
from rerank.errors import CheckpointError, InputError, JudgeError

SMALL = {"vocab_size": 150, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 3}
MODES = ("packed", "varlen", "padded")


def t5(name: str, kind: str = "Seq2SeqLM", **options: Any) -> Any:
    transformers.set_seed(7)
    config = transformers.AutoConfig.for_model(name, **SMALL, decoder_start_token_id=0, **options)
    model = getattr(transformers, f"AutoModelFor{kind}").from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    return model


def some(count: int, longest: int, *, seed: int) -> list[list[int]]:
    choice = random.Random(seed)
    lengths = [1, longest, *(choice.randint(1, longest) for _ in range(count - 2))]
    return [[choice.randint(2, 149) for _ in range(length)] for length in lengths]


@torch.inference_mode()
def plain(model: Any, text: list[int], continuation: list[int], prefix: list[int]) -> torch.Tensor:
    """Text by text: log-probabilities of a continuation, after a prefix."""
    read = torch.tensor([[*prefix, *continuation[:-1]]])
    logits = model(input_ids=torch.tensor([text]), decoder_input_ids=read).logits[0, len(prefix) - 1 :]
    return logits.log_softmax(-1).gather(-1, torch.tensor(continuation)[:, None])[:, 0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAMILIES)
def test_likelihoods_equal_the_plain_loop(name: str, mode: str) -> None:
    """Continuations on both sides of the number from which on keys and values are made (10 with heads of 8)."""
    model = t5(name)
    texts, continuations = some(12, 80, seed=1), some(12, 30, seed=2)
    cases = [(text, ids, prefix) for prefix in ([0], [0, 9, 4]) for text, ids in zip(texts, continuations, strict=True)]
    expected = [plain(model, *case) for case in cases]

    engine = EncoderDecoder(model, mode=mode)
    got = [engine.likelihood(texts, continuations, prefix=prefix).log_probs for prefix in ([0], [0, 9, 4])]

    assert engine._decoder.folds_up_to == 10
    for one, other in zip([*got[0], *got[1]], expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_the_mean_is_minus_the_loss_of_labels() -> None:
    model = t5("t5")
    text, labels = [5, 6, 7, 1], [9, 30, 22, 1]
    with torch.inference_mode():
        loss = model(input_ids=torch.tensor([text]), labels=torch.tensor([labels])).loss

    told = EncoderDecoder(model).likelihood([text], [labels])

    assert told.log_probs[0].mean().item() == pytest.approx(-loss.item(), abs=1e-5)
    assert told.tokens == 4


@pytest.mark.parametrize("mode", ["packed", "varlen"])
def test_bits_of_a_likelihood_do_not_depend_on_its_batch(mode: str) -> None:
    engine = EncoderDecoder(t5("t5"), mode=mode, deterministic=True)
    texts, continuations = some(40, 60, seed=3), some(40, 25, seed=4)
    order = random.Random(5).sample(range(40), 40)

    whole = engine.likelihood(texts, continuations).log_probs
    alone = [engine.likelihood([texts[i]], [continuations[i]]).log_probs[0] for i in range(8)]
    shuffled = engine.likelihood([texts[i] for i in order], [continuations[i] for i in order]).log_probs

    assert all(torch.equal(one, other) for one, other in zip(alone, whole, strict=False))
    assert all(torch.equal(one, whole[i]) for one, i in zip(shuffled, order, strict=True))


def test_folded_and_projected_passes_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = EncoderDecoder(t5("t5"))
    texts, continuations = some(6, 60, seed=3), some(6, 10, seed=4)

    folded = engine.likelihood(texts, continuations).log_probs
    monkeypatch.setattr(type(engine._decoder), "folds_up_to", 0)
    projected = engine.likelihood(texts, continuations).log_probs

    torch.testing.assert_close(torch.cat(folded), torch.cat(projected), rtol=0, atol=1e-5)
    assert not torch.equal(torch.cat(folded), torch.cat(projected)), "both ran the same way"


def test_the_work_of_a_likelihood_is_counted() -> None:
    """Two positions over three states, all without filler: padded mode."""
    engine = EncoderDecoder(t5("t5"), mode="padded")

    told = engine.likelihood([[5, 6, 7]], [[8, 9]])

    layer, feed = 4 * 32 * 24, 2 * 32 * 48
    encoder = 2 * (2 * 3 * (layer + feed) + 4 * 24 * 3**2)
    decoder = 2 * (2 * 2 * (2 * layer + feed) + 4 * 24 * 2**2 + 4 * 3 * 2 * 3 * 32)
    assert told.flops == encoder + decoder + 2 * 64 * 32 * 150  # the head sees 64 rows
    assert (told.tokens, told.padded) == (3, 0)


def test_no_text_has_no_likelihood_and_no_states() -> None:
    engine = EncoderDecoder(t5("t5"))

    assert engine.likelihood([], []).log_probs == ()
    assert engine.encode([]).first().shape == engine.encode([]).mean().shape == (0, 32)


@pytest.mark.parametrize(
    ("texts", "continuations", "complaint"),
    [
        ([[5]], [], "there are 0 continuations for 1 texts"),
        ([[5], [6]], [[7], []], "continuation 1 has no tokens"),
        ([[5]], [[150]], "continuations: there is no token 150"),
        ([[5], []], [[7], [8]], "text 1 has no tokens"),
    ],
)
def test_a_likelihood_that_cannot_be_asked_is_refused(texts: Any, continuations: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        EncoderDecoder(t5("t5")).likelihood(texts, continuations)


def test_a_likelihood_that_is_no_number_names_its_text() -> None:
    model = t5("mt5")
    model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight))  # else the NaN is in the head too
    engine = EncoderDecoder(model)
    engine.model.shared.weight.data[40] = float("nan")

    with pytest.raises(JudgeError, match=r"text 1: the model gave nan"):
        engine.likelihood([[7, 8], [7, 40], [9]], [[5, 6], [5, 6], [7]])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["encoder", "whole"])
def test_states_are_the_encoders_own(kind: str, mode: str) -> None:
    config = transformers.T5Config(**SMALL)
    model = transformers.T5EncoderModel(config).eval() if kind == "encoder" else t5("t5")
    texts = some(7, 50, seed=6)
    with torch.inference_mode():
        expected = [model.encoder(input_ids=torch.tensor([text])).last_hidden_state[0] for text in texts]

    encoded = TextEncoder(model, mode=mode).encode(texts)

    torch.testing.assert_close(encoded.states, torch.cat(expected), rtol=0, atol=1e-5)
    torch.testing.assert_close(encoded.first(), torch.stack([one[0] for one in expected]), rtol=0, atol=1e-5)
    torch.testing.assert_close(encoded.mean(), torch.stack([one.mean(0) for one in expected]), rtol=0, atol=1e-5)
    assert encoded.lengths == tuple(map(len, texts))


def test_a_model_without_a_t5_encoder_is_refused() -> None:
    config = transformers.BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)

    with pytest.raises(CheckpointError, match="BertModel \\(model type 'bert'\\) has no encoder that is known here"):
        TextEncoder(transformers.BertModel(config).eval())
