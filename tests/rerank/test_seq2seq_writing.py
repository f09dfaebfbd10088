"""Writing with slots that are refilled: what is written, in how many steps, and by whom it may be changed."""

from __future__ import annotations

import heapq
import itertools
import random
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from rerank.engine.seq2seq import EncoderDecoder, Sampling
from rerank.engine.t5.choice import choose
from rerank.engine.t5.encoder import Work
from rerank.engine.t5.slots import Slots
from rerank.errors import InputError, JudgeError

END, WORD = 1, 7
MODES = ("packed", "varlen", "padded")


def t5() -> Any:
    """A small T5 v1.1 with random weights."""
    transformers.set_seed(5)
    config = transformers.T5Config(
        vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=3, decoder_start_token_id=0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    model.lm_head.weight = nn.Parameter(0.3 * torch.randn_like(model.lm_head.weight))
    return model


def texts(count: int, *, seed: int = 2, longest: int = 40) -> list[list[list[int]]]:
    choice = random.Random(seed)
    return [[[choice.randint(2, 59) for _ in range(choice.randint(1, longest))]] for _ in range(count)]


@pytest.fixture(scope="module", params=MODES)
def engine(request: pytest.FixtureRequest) -> EncoderDecoder:
    return EncoderDecoder(t5(), mode=request.param)


def of_lengths(lengths: list[int]) -> Any:
    """What may be written so that each request becomes so long, its end token included."""
    return lambda index, written: [END] if len(written) == lengths[index] - 1 else [WORD, 9]


def steps_of(lengths: list[int], slots: int, prefix: int = 1) -> int:
    """The passes that a queue before so many slots needs, when each is refilled at once."""
    busy = [0] * slots
    for length in lengths:
        heapq.heappush(busy, heapq.heappop(busy) + prefix - 1 + length)
    return max(busy)


@pytest.mark.parametrize("mode", ["packed", "varlen"])
def test_short_texts_do_not_wait_for_long_ones(mode: str) -> None:
    """One of 200 tokens and forty of 5 in two slots: 200 steps, where two at a time would take more."""
    lengths = [200, *[5] * 40]
    written = EncoderDecoder(t5(), mode=mode).generate(
        texts(41, longest=6), max_tokens=200, allowed=of_lengths(lengths), slots=2
    )

    assert [len(text) for text in written.texts] == lengths
    assert written.steps == steps_of(lengths, 2) == 200
    assert written.generated == 400


@pytest.mark.parametrize("slots", [1, 3, 40])
def test_steps_are_those_of_a_queue_before_so_many_slots(engine: EncoderDecoder, slots: int) -> None:
    lengths = [9, 5, 1, 12, 5, 2, 7]

    written = engine.generate(
        texts(7), max_tokens=12, allowed=of_lengths(lengths), slots=slots, prefix=[0, 17, 18], budget=30
    )

    assert [len(text) for text in written.texts] == lengths
    assert written.steps == steps_of(lengths, slots, prefix=3)
    assert written.tokens == sum(len(text) for [text] in texts(7))


def test_what_is_written_does_not_depend_on_slots_or_neighbours(engine: EncoderDecoder) -> None:
    groups = texts(9, seed=8)

    whole = engine.generate(groups, max_tokens=15, slots=9).texts

    assert [engine.generate([group], max_tokens=15).texts[0] for group in groups] == whole
    assert engine.generate(groups, max_tokens=15, slots=2, budget=1).texts == whole
    assert engine.generate(groups[::-1], max_tokens=15, slots=4).texts == whole[::-1]
    assert len(set(map(tuple, whole))) > 3


def test_rows_at_different_places_have_the_bits_of_rows_alone() -> None:
    """A row's attention is the same bits beside rows of its own age, of other ages, and alone."""
    torch.manual_seed(1)
    line = torch.randn(3, 2 * 20 + 1)
    parts = torch.randn(30, 3, 4, 3, 8)  # steps, (query, key, value), rows, heads, width

    def run(rows: int, starts: list[int], *, ragged: bool) -> list[dict[int, torch.Tensor]]:
        slots, seen = Slots(rows, ragged=ragged), []
        for step in range(30):
            for row in range(rows):
                if starts[row] == step:
                    slots.begin(row)
            if slots.live:
                ages = [max(0, step - starts[row]) for row in range(rows)]
                now = torch.stack([parts[age, :, row] for row, age in enumerate(ages)], 1)
                read = slots.attend(0, *now, line, Work())
                seen.append({row: read[row] for row in slots.live})
                slots.advance()
        return seen

    apart, masked = run(4, [0, 3, 3, 7], ragged=True), run(4, [0, 3, 3, 7], ragged=False)
    together = run(4, [0, 0, 0, 0], ragged=True)

    for row, start in enumerate([0, 3, 3, 7]):
        for age in range(30 - start):
            assert torch.equal(apart[start + age][row], together[age][row])
            torch.testing.assert_close(masked[start + age][row], together[age][row])


def test_a_permutation_may_be_forced_id_by_id(engine: EncoderDecoder) -> None:
    """Each request its own ids, each id once, then the end."""
    ids = [[10, 11, 12, 13], [20, 21], [30, 31, 32]]

    def left(index: int, written: Any) -> list[int]:
        return [one for one in ids[index] if one not in written] or [END]

    written = engine.generate(texts(3), max_tokens=9, allowed=left).texts

    assert [sorted(text[:-1]) for text in written] == ids
    assert all(text[-1] == END for text in written)


def test_ids_allowed_by_a_function_are_those_allowed_by_a_list(engine: EncoderDecoder) -> None:
    allowed = [1, 5, 9, 33, 34]

    by_list = engine.generate(texts(6), max_tokens=8, allowed=allowed).texts

    assert engine.generate(texts(6), max_tokens=8, allowed=lambda index, written: allowed).texts == by_list


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_neighbours(engine: EncoderDecoder) -> None:
    groups, seeds = texts(6), [3, 1, 4, 1, 5, 9]

    drawn = engine.generate(groups, max_tokens=10, sampling=Sampling(seeds), slots=2).texts
    again = engine.generate(groups, max_tokens=10, sampling=Sampling(seeds), slots=6).texts
    alone = engine.generate(groups[2:3], max_tokens=10, sampling=Sampling([4])).texts
    other = engine.generate(groups[2:3], max_tokens=10, sampling=Sampling([8])).texts

    assert drawn == again
    assert alone == [drawn[2]]
    assert other != alone


def test_a_cold_or_narrow_draw_is_the_likeliest_token(engine: EncoderDecoder) -> None:
    groups = texts(4)
    likeliest = engine.generate(groups, max_tokens=6).texts

    cold = engine.generate(groups, max_tokens=6, sampling=Sampling([1, 2, 3, 4], temperature=1e-4)).texts
    narrow = engine.generate(groups, max_tokens=6, sampling=Sampling([1, 2, 3, 4], top_p=1e-6)).texts

    assert cold == narrow == likeliest


def test_chances_are_spread_by_temperature_and_cut_by_top_p_by_hand() -> None:
    """Probabilities .1 .6 .3: from the likeliest, .6 up to a chance of .6, then .3, then .1; top_p .7 keeps two."""
    logits = torch.tensor([[0.1, 0.6, 0.3]]).log().expand(6, -1)
    chances = [0.0, 0.59, 0.61, 0.89, 0.91, 0.999]
    narrow = Sampling([0], top_p=0.7)  # .6 and .3, so that 2/3 is the border
    cold = Sampling([0], temperature=0.5)  # squares: .01 .36 .09 of .46

    assert choose(logits, Sampling([0]), chances).tolist() == [1, 1, 2, 2, 0, 0]
    assert choose(logits, narrow, [0.0, 0.66, 0.67, 0.9, 0.99, 0.999]).tolist() == [1, 1, 2, 2, 2, 2]
    assert choose(logits, cold, [0.0, 0.78, 0.79, 0.97, 0.98, 0.999]).tolist() == [1, 1, 2, 2, 0, 0]
    assert choose(torch.tensor([[2.0, 5.0, 5.0]]), None, []).tolist() == [1]


def test_chances_are_cut_by_top_k_before_top_p_by_hand() -> None:
    """Probabilities .1 .6 .3: of two, .6 and .3 are two thirds and one; top_p .65 then keeps the first alone."""
    logits = torch.tensor([[0.1, 0.6, 0.3]]).log().expand(3, -1)

    assert choose(logits, Sampling([0], top_k=2), [0.66, 0.67, 0.999]).tolist() == [1, 2, 2]
    assert choose(logits, Sampling([0], top_k=2, top_p=0.65), [0.66, 0.67, 0.999]).tolist() == [1, 1, 1]
    assert choose(logits, Sampling([0], top_k=1), [0.0, 0.5, 0.999]).tolist() == [1, 1, 1]
    assert choose(logits, Sampling([0], top_k=9), [0.59, 0.61, 0.999]).tolist() == [1, 2, 0]


def test_samples_of_a_group_are_what_the_group_would_write_alone_and_it_is_encoded_once(engine: EncoderDecoder) -> None:
    groups, seeds = texts(3), [1, 2, 3, 4, 5, 6]

    together = engine.generate(groups, max_tokens=8, sampling=Sampling(seeds), samples=2)

    repeated = [group for group in groups for _ in range(2)]
    apart = engine.generate(repeated, max_tokens=8, sampling=Sampling(seeds))
    assert together.texts == apart.texts
    assert together.tokens * 2 == apart.tokens


def test_memory_is_bounded_by_slots_and_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoder states are made when the first of a batch is wanted, and a text's are forgotten when it ends."""
    engine = EncoderDecoder(t5())
    groups = [[[5] * 10] for _ in range(40)]
    encoded, most = [], []
    states, step = engine._texts.states, engine._decoder.step
    monkeypatch.setattr(engine._texts, "states", lambda some, work: encoded.append(len(some)) or states(some, work))
    monkeypatch.setattr(
        engine._decoder, "step", lambda ids, memory, *rest: most.append(memory.size) or step(ids, memory, *rest)
    )

    engine.generate(groups, max_tokens=3, allowed=[5], slots=4, budget=50)

    assert encoded == [5] * 8
    assert max(most) == 4 * 10


def test_a_logit_that_is_no_number_names_its_request() -> None:
    engine = EncoderDecoder(t5())
    engine.model.shared.weight.data[40] = float("nan")

    with pytest.raises(JudgeError, match=r"request 1: the model gave the logit nan"):
        engine.generate([[[7, 8]], [[7, 40]]], max_tokens=2)
    with pytest.raises(JudgeError, match=r"text 2: the model gave nan"):
        engine.score([[7], [8], [9, 40]], [3, 4])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"allowed": lambda index, written: []}, r"allowed gave \[\] for request 0 after 0 ids"),
        ({"allowed": lambda index, written: [5, 60]}, r"allowed gave \[5, 60\] for request 0 after 0 ids"),
        ({"slots": 0}, "slots=0"),
        ({"sampling": Sampling([1])}, "there are 1 seeds for 2 texts"),
        ({"sampling": Sampling([1, 2, 3]), "samples": 2}, "there are 3 seeds for 4 texts"),
        ({"samples": 2}, "samples=2; it is at least 1, and more than 1 wants sampling"),
    ],
)
def test_what_cannot_be_written_is_refused(engine: EncoderDecoder, options: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        engine.generate(texts(2), max_tokens=2, **options)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1}])
def test_a_draw_that_makes_no_sense_is_refused(options: Any) -> None:
    with pytest.raises(InputError, match="=".join(map(str, itertools.chain(*options.items())))):
        Sampling([1], **options)
