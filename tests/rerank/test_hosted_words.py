"""What is made of a server's few likeliest tokens, by hand; names of models; shapes of replies."""

from __future__ import annotations

import math

import pytest

from rerank import prompts
from rerank.errors import InputError, JudgeError, UnknownName
from rerank.judges.hosting.choosing import way_for
from rerank.judges.hosting.providers import api_key, hosting, is_hosted, providers
from rerank.judges.hosting.replies import Reply, Step, Usage, reply
from rerank.judges.hosting.told_words import bare, behind, word_scores
from rerank.judges.readings import by_targets, checked_grades
from rerank.prompts.reading import read_word
from rerank.questions import Compare, Grade
from rerank.types import Document, Query

GRADE = Grade(Query("q", "?"), Document("d", "text"))


def step(text, probability, **top):
    told = tuple((word.replace("_", " "), math.log(share)) for word, share in top.items())
    return Step(text, math.log(probability), told)


def test_words_are_read_by_their_likeliest_spelling():
    scores, outside = word_scores([step(" Yes", 0.5, _Yes=0.5, Yes=0.2, No=0.1, _No=0.05)], ["Yes", "No"], "")

    assert scores == pytest.approx([math.log(0.5), math.log(0.1)])
    assert outside == 0


def test_a_word_that_is_not_told_has_at_most_the_last_one_that_is_and_at_most_what_is_left():
    scores, outside = word_scores([step("Yes", 0.6, Yes=0.6, Sure=0.3)], ["Yes", "No"], "")
    assert scores == pytest.approx([math.log(0.6), math.log(0.1)])  # 0.1 is left, and 0.3 was the last
    assert outside == 1

    scores, _ = word_scores([step("Yes", 0.6, Yes=0.6, Sure=0.01)], ["Yes", "No"], "")
    assert scores[1] == pytest.approx(math.log(0.01))


def test_it_is_read_behind_the_beginning_that_the_model_had_to_write():
    steps = [step("Passage", 1.0, Passage=0.9, A=0.05), step(" B", 0.7, _B=0.7, _A=0.3)]

    assert word_scores(steps, ["A", "B"], "Passage")[0] == pytest.approx([math.log(0.3), math.log(0.7)])
    assert word_scores(steps[1:], ["A", "B"], "Passage")[0] == pytest.approx([math.log(0.3), math.log(0.7)])


def test_it_is_read_behind_a_thought():
    steps = [step("<think>", 1.0), step("A", 1.0, A=1.0), step("</think>", 1.0), step("B", 0.8, B=0.8, A=0.1)]

    assert word_scores(steps, ["A", "B"], "")[0] == pytest.approx([math.log(0.1), math.log(0.8)])


def test_what_stands_in_a_thought_that_is_not_ended_is_no_answer():
    steps = [step(" A", 1.0, _A=1.0), step(" then", 1.0)]

    assert word_scores(steps, ["A", "B"], "", thinks=True) == ([math.log(0.5)] * 2, 2)
    assert word_scores(steps, ["A", "B"], "")[0][0] == pytest.approx(0.0)
    ended = [*steps, step("</think>", 1.0), step(" B", 0.8, _B=0.8, _A=0.1)]
    assert word_scores(ended, ["A", "B"], "", thinks=True)[0] == pytest.approx([math.log(0.1), math.log(0.8)])


def test_rank1_is_read_behind_the_thought_that_a_server_wrote():
    way = way_for(prompts.find("rank1"), "likelihood", None, None, None, None)
    thought = [step(" It", 1.0), step(" is", 1.0), step(" true", 1.0, _true=1.0)]
    ended = (*thought, step("</think>", 1.0), step(" false", 0.6, _false=0.6, _true=0.2))

    read = way.read(GRADE, Reply("", ended, False, None, "m", ""), "").answer
    cut = way.read(GRADE, Reply("", tuple(thought), True, None, "m", ""), "").answer

    assert math.exp(read.score) == pytest.approx(0.25)
    assert read.repairs == ()
    assert math.exp(cut.score) == pytest.approx(0.5)
    assert cut.repairs == ("2 of 2 words were not among the likeliest tokens", "cut off at 8192 tokens")
    assert way.most(GRADE) == 8192


def test_tfrank_is_read_off_the_verdict_and_the_digits_behind_its_bracket():
    way = way_for(prompts.find("tfrank"), "likelihood", None, None, None, None)
    digits = {"0": 0.0625, "1": 0.0625, "2": 0.125, "3": 0.5, "4": 0.25}  # 2.8125 of 4 expected
    steps = (
        step("<think>", 1.0), step("\n\n", 1.0), step("</think>", 1.0), step("\n\n", 1.0),
        step("yes", 0.6, yes=0.6, no=0.2), step("(", 1.0), step("3", 0.5, **digits), step(")", 1.0),
    )  # fmt: skip

    [read, alone] = [
        way.read(GRADE, Reply("", some, False, None, "m", ""), "").answer for some in (steps[4:], steps[4:5])
    ]
    chat = way.read(GRADE, Reply("", steps, False, None, "m", ""), way.prompt.answer).answer

    assert read.score == pytest.approx((2.8125 / 4 + 0.75) / 2)
    assert read.repairs == ()
    assert chat.score == pytest.approx(read.score)
    assert alone.score == pytest.approx((0.5 + 0.75) / 2)
    assert alone.repairs == ("5 of 7 words were not among the likeliest tokens",)


def test_brackets_beside_a_label_are_no_part_of_it():
    scores, outside = word_scores([step("[B", 0.6, **{"[B": 0.6, "[A]": 0.2, "C": 0.1})], ["A", "B", "C"], "[")

    assert scores == pytest.approx([math.log(0.2), math.log(0.6), math.log(0.1)])
    assert outside == 0
    assert [bare(text) for text in (" Yes", "▁no.", "[3]", "+", "")] == ["Yes", "no", "3", "+", ""]


def test_nothing_written_tells_no_word():
    assert word_scores([], ["A", "B"], "") == ([math.log(0.5)] * 2, 2)


def test_the_last_tokens_of_what_is_read_back_are_the_querys():
    texts = ["<s>", "Document", ":", " cats", " Query", ":", " how", " many", "?", " never"]
    places = [sum(map(len, texts[:index])) for index in range(len(texts))]
    steps = [
        Step(text, None if not index else -float(index), (), at)
        for index, (text, at) in enumerate(zip(texts, places, strict=True))
    ]

    assert behind(steps, " how many?", 9) == [-6.0, -7.0, -8.0]
    assert behind(steps, " how many?", None) == [-6.0, -7.0, -8.0]  # all but the one that was written
    assert behind(steps, "w many?", 9) == [-6.0, -7.0, -8.0]  # a token that lies across counts as the query's


@pytest.mark.parametrize(("places", "numbers"), [([None, None], [-1.0, -1.0]), ([0, 1], [None, None])])
def test_what_does_not_tell_the_querys_tokens_is_refused(places, numbers):
    steps = [Step("a", number, (), at) for number, at in zip(numbers, places, strict=True)]

    with pytest.raises(JudgeError, match="the server does not tell"):
        behind(steps, "a", 2)


def test_grades_by_hand():
    logits = [math.log(0.5), math.log(0.3), math.log(0.2)]

    assert by_targets(GRADE, logits, (2.0, 1.0, 0.0)).score == pytest.approx(1.3)
    assert by_targets(GRADE, logits[:2], ()).score == pytest.approx(math.log(0.5 / 0.8))
    assert by_targets(GRADE, [-0.25], ()).score == -0.25
    pair = Compare(GRADE.query, GRADE.document, GRADE.document)
    assert by_targets(pair, logits[:2], ()).probability == pytest.approx(0.5 / 0.8)
    assert checked_grades(["3", "2", "1"], None) == (3.0, 2.0, 1.0)


def test_a_written_word_is_read():
    assert read_word("<think>No?</think> yes, it does", ["Yes", "No"]) == (0, ())
    assert read_word("Now I know", ["Yes", "No"]) == (None, ("no target that could be read",))
    assert read_word("No. (Yes would be wrong)", ["Yes", "No"]) == (1, ("2 targets written, the first taken",))


def test_names_of_models():
    assert hosting("openai:gpt-4o-mini").provider.base_url == "https://api.openai.com/v1"
    assert hosting("openrouter:qwen/qwen3-8b:free").model == "qwen/qwen3-8b:free"
    assert hosting("http://127.0.0.1:8000/v1/#a/b").model == "a/b"
    assert hosting("http://127.0.0.1:8000#m").provider.base_url == "http://127.0.0.1:8000/v1"
    assert hosting("http://h/v1/chat/completions#m").provider.base_url == "http://h/v1"
    assert hosting("m:x", base_url="vllm").model == "m:x"
    assert hosting("m", base_url="https://h/api").provider.base_url == "https://h/api"
    assert [is_hosted(name) for name in ("openai:x", "https://h", "BAAI/bge", "c:x", "./openai:x")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_providers_are_complete():
    for name, provider in providers().items():
        assert provider.base_url.startswith("http"), name
        assert "://" in provider.source, name
        assert provider.api_key_env or "localhost" in provider.base_url, name


@pytest.mark.parametrize(
    ("name", "base_url", "said"),
    [
        ("gpt-4", None, "says no server; write PROVIDER:MODEL"),
        ("opnai:gpt-4", None, "no provider is called 'opnai'; did you mean 'openai'"),
        ("http://#m", None, "is no address"),
        ("m", "ftp://h", "is no address"),
        ("http://h:port/v1#m", None, "is no address"),
        ("https://me:secret@h/v1#m", None, "the address of h holds a password or a query"),
        ("https://h/v1?key=secret#m", None, "the address of h holds a password or a query"),
    ],
)
def test_names_that_say_no_server_are_refused_and_passwords_are_not_repeated(name, base_url, said):
    with pytest.raises((InputError, UnknownName), match=said) as refused:
        hosting(name, base_url)
    assert "secret" not in str(refused.value)


def test_keys_come_from_the_environment(monkeypatch):
    openai = providers()["openai"]
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match="wants a key: set the environment variable OPENAI_API_KEY"):
        api_key(openai, None)

    monkeypatch.setenv("OPENAI_API_KEY", " one\n")
    monkeypatch.setenv("ANOTHER", "two two")
    assert api_key(openai, None) == ("one", "OPENAI_API_KEY")
    assert api_key(openai, "") == (None, "")
    assert api_key(providers()["vllm"], None) == (None, "")
    with pytest.raises(InputError, match="ANOTHER holds is no key") as refused:
        api_key(openai, "ANOTHER")
    assert "two" not in str(refused.value)


def test_replies_of_both_doors_are_read():
    content = [{"token": "Yes", "logprob": -0.1, "top_logprobs": [{"token": "Yes", "logprob": -0.1}]}]
    chat = reply(
        {
            "choices": [{"message": {"content": "Yes"}, "finish_reason": "stop", "logprobs": {"content": content}}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}},
            "model": "m",
        }
    )
    assert chat.steps == (Step("Yes", -0.1, (("Yes", -0.1),)),)
    assert chat.usage == Usage(9, 4, 1)

    told = {
        "tokens": ["a", " b"],
        "token_logprobs": [None, -1],
        "top_logprobs": [None, {" b": -1}],
        "text_offset": [0, 1],
    }
    text = reply({"choices": [{"text": "a b", "finish_reason": "length", "logprobs": told}]})
    assert text.steps == (Step("a", None, (), 0), Step(" b", -1.0, ((" b", -1.0),), 1))
    assert (text.cut, text.usage, text.text) == (True, None, "a b")

    thought = reply({"choices": [{"message": {"content": None}, "finish_reason": "length", "logprobs": None}]})
    assert (thought.text, thought.steps) == ("", None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"message": {"content": 3}}]},
        {"choices": [{"text": "a", "logprobs": {"content": [{"token": "a"}]}}]},
        {"choices": [{"text": "a", "logprobs": {"content": [{"token": "a", "logprob": float("nan")}]}}]},
        {"choices": [{"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": [-1, -2]}}]},
        {"choices": [{"text": "a"}], "usage": {"prompt_tokens": -1}},
        {"choices": "abc"},
    ],
)
def test_replies_that_are_none_are_refused(body):
    with pytest.raises(JudgeError, match="the server's answer cannot be read"):
        reply(body)
