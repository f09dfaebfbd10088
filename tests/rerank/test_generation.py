"""A text is what transformers would write, alone or among others; and no slot is idle while a text waits."""

from __future__ import annotations

import heapq
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank.cost import UNITS
from rerank.engine.causal import CausalLM
from rerank.engine.generation import Request, Writer
from rerank.engine.writing import text as generation_text
from rerank.engine.writing.choosing import drawn
from rerank.engine.writing.stopping import Decoder
from rerank.errors import InputError, JudgeError

NEVER: frozenset[int] = frozenset()


def prompts(count: int, *, seed: int = 3, longest: int = 40) -> list[tuple[tuple[int, ...], ...]]:
    """Prompts that begin alike and go on differently."""
    choice = random.Random(seed)
    instruction = tuple(choice.randint(1, 199) for _ in range(12))
    return [
        (instruction, tuple(choice.randint(1, 199) for _ in range(choice.randint(1, longest))), (5, 6))
        for _ in range(count)
    ]


def ids_of(prompt: Sequence[Sequence[int]]) -> list[int]:
    return [token for segment in prompt for token in segment]


def asked(prompt: Sequence[Sequence[int]], tokens: int, **options: Any) -> Request:
    return Request(prompt=prompt, max_tokens=tokens, **({"stop_ids": NEVER} | options))


def ideal_steps(lengths: Sequence[int], slots: int) -> int:
    """Steps of a machine that is never idle: each text, in order, takes the slot that is free first.

    The first token of a text comes out of its prompt, so that a text of n tokens needs n - 1 steps.
    """
    free = [0] * slots
    for length in lengths:
        heapq.heapreplace(free, free[0] + length - 1)
    return max(free)


@pytest.fixture(scope="module")
def engine(causal: Any) -> CausalLM:
    return CausalLM(causal("llama"))


# -- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "qwen3 tied", "gemma2", "mistral"])
def test_greedy_texts_are_those_of_transformers(name, causal):
    model = causal(name)
    given_prompts = prompts(4)
    stop = 17
    expected = []
    for prompt in given_prompts:
        ids = torch.tensor([ids_of(prompt)])
        written = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, eos_token_id=stop
        )
        expected.append(written[0, ids.shape[1] :].tolist())

    generated = Writer(CausalLM(model)).write([asked(prompt, 20, stop_ids=[stop]) for prompt in given_prompts])

    got = [[*text.ids, *([stop] if text.end == "stop token" else [])] for text in generated.texts]
    assert got == expected
    assert generated.cost.generated == sum(map(len, expected)) == sum(text.generated for text in generated.texts)


def test_smollm2_writes_what_transformers_writes(smollm):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rerank.engine.texts.borders import Borders
    from rerank.engine.texts.chat import chat
    from rerank.engine.texts.prompt_tokens import PromptTokens, Slot
    from rerank.engine.texts.text_tokens import TextTokens

    tokenizer = AutoTokenizer.from_pretrained(smollm)
    model = AutoModelForCausalLM.from_pretrained(smollm, dtype=torch.float32).eval()
    template = chat(tokenizer, [("user", ["Name the capital of ", Slot("country"), "."])])
    rendered = [
        PromptTokens(Borders(TextTokens(tokenizer)), template).render({"country": country}).segments
        for country in ("France", "Japan")
    ]
    expected = []
    for segments in rendered:
        ids = torch.tensor([ids_of(segments)])
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        expected.append(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))

    generated = Writer(CausalLM(model), tokenizer).write(
        [Request(prompt=segments, max_tokens=8) for segments in rendered]
    )

    assert [text.text for text in generated.texts] == expected
    assert "Paris" in expected[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_text_does_not_depend_on_its_neighbours(engine, temperature):
    requests = [
        asked(prompt, 3 + 4 * index, temperature=temperature, top_p=0.9, seed=index)
        for index, prompt in enumerate(prompts(6))
    ]
    alone = [Writer(engine).write([request]).texts[0] for request in requests]

    together = Writer(engine, slots=6).write(requests)
    crowded = Writer(engine, slots=2).write(requests[::-1])

    assert together.texts == alone
    assert crowded.texts == alone[::-1]


def test_seed_and_draw_alone_decide_what_is_drawn(engine):
    [prompt] = prompts(1)
    options = {"temperature": 1.5}
    votes = [(0, 0), (0, 1), (1, 0), (0, 0), (0, 1)]

    generated = Writer(engine).write([asked(prompt, 20, seed=seed, draw=draw, **options) for seed, draw in votes])

    texts = [text.ids for text in generated.texts]
    assert texts[0] == texts[3]
    assert texts[1] == texts[4]
    assert len(set(texts)) == 3


def test_only_allowed_tokens_are_written(engine):
    prompt, other = prompts(2)
    letters = [40, 41, 42, 43]

    def rest(written: Sequence[int]) -> list[int]:
        return [letter for letter in letters if letter not in written] or [9]

    fixed, permutation, free = (
        Writer(engine)
        .write(
            [
                asked(prompt, 8, allowed=letters),
                asked(prompt, 8, allowed=rest, stop_ids=[9]),
                asked(other, 8),
            ]
        )
        .texts
    )

    assert set(fixed.ids) <= set(letters)
    assert sorted(permutation.ids) == letters
    assert permutation.end == "stop token"
    assert not set(free.ids) <= set(letters)


def test_the_likeliest_of_the_allowed_tokens_is_taken(engine):
    [prompt] = prompts(1)
    targets = [33, 12, 150, 77]
    logits = engine.score([prompt], targets).logits[0]

    [text] = Writer(engine).write([asked(prompt, 1, allowed=targets)]).texts

    assert text.ids == (targets[int(logits.argmax())],)
    assert text.end == "max tokens"


def test_nothing_allowed_fails_that_text_alone(engine):
    one, two = prompts(2)

    stuck, fine = (
        Writer(engine).write([asked(one, 5, allowed=lambda written: [7][len(written) :]), asked(two, 5)]).texts
    )

    assert isinstance(stuck, InputError)
    assert "request 0: tokens allowed behind [7]" in str(stuck)
    assert len(fine.ids) == 5


def test_a_model_that_gives_no_numbers_fails_its_texts(causal):
    model = causal("llama")
    engine = CausalLM(model)
    with torch.no_grad():
        model.lm_head.weight[7, 0] = float("nan")

    [broken, fine] = Writer(engine).write([asked(prompts(1)[0], 5), asked(prompts(1)[0], 5, allowed=[1, 2, 3])]).texts

    assert isinstance(broken, JudgeError)
    assert "no finite number behind 0 tokens of request 0" in str(broken)
    assert len(fine.ids) == 5
    assert engine.pool.used == engine.kept_tokens


# -- where texts end -------------------------------------------------------------------------------------------------


class Letters:
    """A tokenizer whose tokens are letters: 1 is "a"; 0 is special, and 99 half a character."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        assert skip_special_tokens
        assert not clean_up_tokenization_spaces
        return "".join(chr(96 + token) if token != 99 else "\ufffd" for token in ids if token)


def spelled(text: str) -> list[int]:
    return [ord(letter) - 96 for letter in text]


def written_until_stopped(stop: Sequence[str], ids: Sequence[int]) -> tuple[int, tuple[str, str]] | None:
    decoder = Decoder(Letters(), stop)
    return next(((end, found) for end in range(1, len(ids) + 1) if (found := decoder.stopped(ids[:end]))), None)


@pytest.mark.parametrize(
    ("stop", "text", "end"),
    [
        (["cd"], "abcdef", (4, ("ab", "cd"))),
        (["def", "cd"], "abcdef", (4, ("ab", "cd"))),
        (["a"], "abc", (1, ("", "a"))),
        (["cd", "c"], "abcd", (3, ("ab", "c"))),
        (["x"], "abc", None),
        ([], "abc", None),
    ],
)
def test_a_text_ends_where_a_stop_string_begins(stop, text, end):
    assert written_until_stopped(stop, spelled(text)) == end


@given(st.text("ab", max_size=60), st.text("ab", min_size=1, max_size=12))
def test_a_stop_string_is_found_as_soon_as_it_is_complete(text, stop):
    found = written_until_stopped([stop], spelled(text))

    assert found == ((text.index(stop) + len(stop), (text[: text.index(stop)], stop)) if stop in text else None)


def test_special_tokens_and_broken_characters_hide_no_stop_string():
    assert written_until_stopped(["cd"], [1, 99, 0, 3, 0, 0, 4]) == (7, ("a\ufffd", "cd"))


def test_stop_strings_end_texts_of_a_model(engine):
    [prompt] = prompts(1)
    [whole] = Writer(engine, Letters()).write([asked(prompt, 30, allowed=range(1, 27))]).texts
    stop = whole.text[6:9]

    [text] = Writer(engine, Letters()).write([asked(prompt, 30, allowed=range(1, 27), stop=(stop,))]).texts

    assert text.text == whole.text[: whole.text.index(stop)]
    assert (text.end, text.stop) == ("stop string", stop)
    assert text.ids == whole.ids[: len(text.text) + 3]


def test_the_models_own_end_is_the_usual_one(causal):
    [prompt] = prompts(1)
    model = causal("llama")
    [first] = Writer(CausalLM(model)).write([asked(prompt, 1)]).texts
    model = causal("llama", eos_token_id=first.ids[0])

    [text] = Writer(CausalLM(model)).write([Request(prompt=prompt, max_tokens=9)]).texts

    assert (text.ids, text.end, text.generated, text.text) == ((), "stop token", 1, None)


# -- slots and room --------------------------------------------------------------------------------------------------


def test_a_slot_that_is_free_is_taken_in_the_same_step(engine):
    lengths = [200 if index % 4 == 0 else 5 for index in range(16)]
    requests = [asked(prompt, length) for prompt, length in zip(prompts(16), lengths, strict=True)]

    generated = Writer(engine, slots=4).write(requests)

    assert [len(text.ids) for text in generated.texts] == lengths
    assert generated.cost.steps == ideal_steps(lengths, 4) == 223  # 796 if each four waited for their longest
    assert generated.cost.generated == sum(lengths)


@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=10), slots=st.integers(1, 5))
def test_steps_are_those_of_a_machine_that_is_never_idle(engine, lengths, slots):
    requests = [asked(prompt, length) for prompt, length in zip(prompts(len(lengths)), lengths, strict=True)]

    generated = Writer(engine, slots=slots).write(requests)

    assert generated.cost.steps == ideal_steps(lengths, slots)


def test_texts_are_given_out_as_they_end(engine):
    requests = [asked(prompt, length) for prompt, length in zip(prompts(3), (9, 2, 5), strict=True)]

    assert [index for index, _ in Writer(engine).start(requests)] == [1, 2, 0]


@pytest.mark.parametrize("slots", [1, 3, 16])
def test_what_prompts_begin_with_is_computed_once(causal, slots):
    engine = CausalLM(causal("llama"))
    given_prompts = prompts(7)

    cost = Writer(engine, slots=slots).write([asked(prompt, 4) for prompt in given_prompts]).cost

    assert cost.prefill == len(given_prompts[0][0]) + sum(len(ids_of(prompt[1:])) for prompt in given_prompts)
    assert cost.prefill + cost.reused == sum(len(ids_of(prompt)) for prompt in given_prompts)
    assert cost.tokens == cost.prefill + 7 * 3
    assert cost.calls >= cost.steps + 1
    assert cost.padded > 0
    assert cost.flops > 0
    assert set(cost.amounts) <= set(UNITS)


def test_a_prompt_is_computed_once_for_all_its_votes(causal):
    engine = CausalLM(causal("llama"))
    [prompt] = prompts(1)

    cost = Writer(engine).write([asked(prompt, 6, temperature=1.0, draw=draw) for draw in range(10)]).cost

    assert cost.prefill == len(ids_of(prompt))


def test_flops_are_those_of_the_rows_that_were_computed(causal):
    engine = CausalLM(causal("llama"))
    [prompt] = prompts(1)
    one, two = (Writer(engine).write([asked(prompt, tokens)]).cost for tokens in (2, 3))
    rows, layers, (hidden, inner, heads, keys, dim) = (
        engine.model.fewest_rows,
        len(engine.pool.keys),
        (64, 96, 4, 2, 16),
    )
    projections = hidden * (heads + keys) * 2 * dim + 3 * hidden * inner
    seen = len(ids_of(prompt)) + 2

    step = two.flops - one.flops

    last = 2 * hidden * keys * dim  # of all rows; the rest of the last layer for the settled rows of what is asked
    attention = layers * 4 * seen * heads * dim
    head = 2 * 32 * hidden * engine.limits.vocab
    assert step == 2 * rows * ((layers - 1) * projections + last) + 2 * rows * projections + attention + head


def test_the_pool_is_given_back(causal, monkeypatch):
    monkeypatch.setattr(generation_text, "BLOCK", 4)
    engine = CausalLM(causal("llama"))
    requests = [asked(prompt, 12 + index) for index, prompt in enumerate(prompts(6))]
    most = []
    for _ in range(3):
        Writer(engine, slots=2).write(requests)
        engine.forget()
        most.append(engine.pool.capacity)
        assert engine.pool.used == 0

    assert len(set(most)) == 1


def test_writing_that_is_broken_off_gives_the_pool_back(engine):
    engine.forget()
    with Writer(engine, slots=2).start(
        [asked(prompt, 30 + index) for index, prompt in enumerate(prompts(5))]
    ) as writing:
        index, text = next(iter(writing))
    engine.forget()

    assert (index, len(text.ids)) == (0, 30)
    assert engine.pool.used == 0
    assert not torch.is_inference_mode_enabled()


def test_what_does_not_fit_waits(engine):
    given_prompts = prompts(6)
    requests = [asked(prompt, 20) for prompt in given_prompts]
    room = max(len(ids_of(prompt)) for prompt in given_prompts) + 20

    narrow = Writer(engine, slots=6, room=room).write(requests)
    wide = Writer(engine, slots=6).write(requests)

    assert narrow.texts == wide.texts
    assert wide.cost.steps == 19
    assert narrow.cost.steps > 19


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_tokens": 0}, "request 1: max_tokens=0"),
        ({"max_tokens": 1020}, r"request 1: a prompt of \d+ tokens and max_tokens=1020 exceed the 1024 tokens"),
        ({"max_tokens": 500}, r"request 1: .* never fit into room=300"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"seed": -1}, "seed=-1"),
        ({"stop": "stop"}, "give a tuple of strings"),
        ({"stop": ("",)}, "none of them empty"),
        ({"stop": ("a",)}, "no tokenizer"),
        ({"allowed": [200]}, "request 1: allowed: there is no token 200"),
        ({"allowed": []}, "request 1: allowed: there are none"),
        ({"stop_ids": [-1]}, "request 1: stop_ids: there is no token -1"),
        ({"prompt": ((),)}, "prompt of request 1 has no tokens"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(engine, options, why):
    one, two = prompts(2)
    wrong = Request(**({"prompt": two, "max_tokens": 5} | options))

    with pytest.raises(InputError, match=why):
        Writer(engine, room=300).write([asked(one, 5), wrong])


def test_a_model_that_scores_labels_writes_nothing(causal):
    engine = CausalLM(causal("qwen2", kind="AutoModelForSequenceClassification", num_labels=1))

    with pytest.raises(InputError, match="writes nothing"):
        Writer(engine).write([asked(prompts(1)[0], 5)])


def test_a_writer_for_nothing_is_refused_and_nothing_is_written_for_nobody(engine):
    with pytest.raises(InputError, match="slots=0"):
        Writer(engine, slots=0)
    assert Writer(engine).write([]).texts == []


# -- what is drawn ---------------------------------------------------------------------------------------------------


def test_tokens_lie_side_by_side_by_falling_probability():
    logits = np.log(np.array([0.1, 0.5, 0.1, 0.3], np.float32))

    def at(chance: float, top_p: float = 1.0) -> int:
        return drawn(logits, temperature=1.0, top_p=top_p, chance=chance)

    assert [at(chance) for chance in (0.0, 0.49, 0.51, 0.79, 0.81, 0.89, 0.91, 0.999)] == [1, 1, 3, 3, 0, 0, 2, 2]
    assert [at(chance, top_p=0.7) for chance in (0.0, 0.62, 0.63, 0.999)] == [1, 1, 3, 3]
    assert at(0.999, top_p=0.4) == 1


def test_the_colder_the_surer():
    logits = np.array([1.0, 2.0, 1.9], np.float32)

    hot, cold = (
        [drawn(logits, temperature=temperature, top_p=1.0, chance=chance / 100) for chance in range(100)].count(1)
        for temperature in (1.0, 0.01)
    )

    assert hot < 60
    assert cold == 100


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40), st.floats(0.01, 1), st.floats(0, 0.999))
def test_what_is_drawn_is_among_the_likeliest(logits, top_p, chance):
    array = np.array(logits, np.float32)

    index = drawn(array, temperature=1.0, top_p=top_p, chance=chance)

    shares = np.exp(array.astype(float) - array.max())
    shares /= shares.sum()
    likelier = shares[shares > shares[index]].sum()
    assert likelier < top_p or np.isclose(likelier, top_p)


def test_the_pages_example_runs():
    page = Path(__file__).resolve().parents[2] / "docs/generation.md"
    [block] = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)
    left: dict[str, Any] = {}

    exec(compile(block, "docs/generation.md", "exec"), left)

    assert len(left["generated"].texts) == 3
    assert set(left["generated"].texts[2].ids) <= {11, 12}
