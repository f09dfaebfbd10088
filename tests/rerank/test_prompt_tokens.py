"""Prompts put together from segments are the prompts that the tokenizer itself would write."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rerank.cost import UNITS
from rerank.engine.prefix import Trie
from rerank.engine.texts.borders import Borders
from rerank.engine.texts.chat import chat
from rerank.engine.texts.prompt_tokens import PromptTokens, Slot, Template
from rerank.engine.texts.shares import shares
from rerank.engine.texts.text_tokens import TextTokens
from rerank.errors import InputError

QUERY, A, B = Slot("query"), Slot("a", cut=True), Slot("b", cut=True)
TEMPLATES = {
    "monoT5": Template(("Query: ", QUERY, " Document: ", A, " Relevant:")),
    "pairwise": Template(
        (
            'Given a query "',
            QUERY,
            '", which of the following two passages is more relevant to the query?\n\nPassage A: "',
            A,
            '"\n\nPassage B: "',
            B,
            '"\n\nOutput Passage A or Passage B:',
        )
    ),
    "listwise": Template(
        ("<|im_start|>user\n[1] ", A, "\n[2] ", B, "\nQuery: ", QUERY, ".<|im_end|>\n<|im_start|>assistant\n"), False
    ),
    "side by side": Template((QUERY, A, B)),
}
EDGES = [
    " ",
    "\n",
    '"',
    "'s",
    ".",
    "\u0301",
    "ﬁ",
    "1",
    "▁",
    "<|im_end|>",
    "</s>",
    "\u200d",
    "a" * 200,
    "語" * 150,
    "\t",
]
TEXTS = (
    st.text(max_size=40)
    | st.lists(st.sampled_from([*EDGES, "the", "cat", "Sat"]), max_size=6).map("".join)
    | st.lists(st.sampled_from([*EDGES, "the", "cat", "Sat"]), max_size=6).map(" ".join)
)
CORPUS = [
    'Given a query "what is it", which of the following two passages is more relevant? Passage A: "The cat sat."',
    "Query: Document: Relevant: user assistant [1] [2] naïve café 東京 2023",
    "a b c d " * 9,
]


def sentencepiece() -> Any:
    """Of Llama 2's and Mistral's shape: a space in front of the text, BPE over all of it, <s> before it."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<unk>", "<s>", "</s>"]
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=special))
    tokenizer.pre_tokenizer = None
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>")


def llama3() -> Any:
    """Byte-level BPE with the pattern of Llama 3 and Qwen, which reads punctuation together with line breaks."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    special = ["<|begin_of_text|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin_of_text|>")


@pytest.fixture(scope="module", params=["wordpiece", "unigram", "gpt2", "sentencepiece", "llama3"])
def borders(request: pytest.FixtureRequest) -> Borders:
    made = {"sentencepiece": sentencepiece, "llama3": llama3}
    fixtures = {"wordpiece": "minilm", "unigram": "flan", "gpt2": "smollm"}
    if request.param in made:
        return Borders(TextTokens(made[request.param]()))
    return Borders(TextTokens(AutoTokenizer.from_pretrained(request.getfixturevalue(fixtures[request.param]))))


@cache
def prompts_of(borders: Borders, name: str) -> PromptTokens:
    return PromptTokens(borders, TEMPLATES[name])


@pytest.mark.parametrize("name", TEMPLATES)
def test_plain_texts_are_put_together_from_pieces(borders, name):
    prompts = prompts_of(borders, name)
    texts = {"query": "what is a reranker", "a": "It puts documents in order.", "b": "(A sort of thing)"}

    prompt = prompts.render(texts)

    assert prompts.segments
    assert prompt.ids == prompts.whole(texts)
    if name != "side by side":
        assert prompt.merged == 0
        assert len(prompt.segments) >= 4


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=TEXTS, first=TEXTS, second=TEXTS)
def test_segments_side_by_side_are_the_whole_prompt_whatever_the_texts(borders, name, query, first, second):
    prompts = prompts_of(borders, name)
    texts = {"query": query, "a": first, "b": second}

    prompt = prompts.render(texts)

    assert prompt.ids == prompts.whole(texts)
    assert all(prompt.segments)


def test_prompts_share_what_they_have_in_common(borders):
    prompts = prompts_of(borders, "pairwise")
    documents = ["The cat sat.", "A dog ran!", "Fish swim"]

    rendered = [
        prompts.render({"query": "which animal runs?", "a": one, "b": two})
        for one in documents
        for two in documents
        if one != two
    ]
    trie = Trie([prompt.segments for prompt in rendered])

    assert [len(level) for level in trie.levels] == [1, 3, 6]
    assert trie.naive == sum(len(prompt) for prompt in rendered)


def test_a_border_that_a_text_breaks_is_read_across_and_counted(borders):
    prompts = prompts_of(borders, "listwise")
    plain = prompts.render({"query": "q", "a": "one", "b": "two"})

    odd = prompts.render({"query": "q", "a": "one", "b": "two\u0301\n\n "})

    assert plain.merged == 0
    assert set(prompt_amounts := odd.amounts) <= set(UNITS)
    assert prompt_amounts.get("borders_merged", 0) == odd.merged
    assert odd.ids == prompts.whole({"query": "q", "a": "one", "b": "two\u0301\n\n "})


def test_a_space_before_a_slot_goes_with_the_text():
    borders = Borders(TextTokens(llama3()))

    prompts = PromptTokens(borders, TEMPLATES["monoT5"])

    assert prompts._units == [("Query:",), (" ", QUERY), (" Document:",), (" ", A), (" Relevant:",)]


def test_a_tokenizer_that_marks_beginnings_reads_pieces_behind_something():
    assert Borders(TextTokens(sentencepiece())).after == "\n"
    assert Borders(TextTokens(llama3())).after == ""


class Backwards:
    """A tokenizer whose ids depend on how long the text is: no piece is a piece."""

    name_or_path = ""

    def __call__(self, texts: list[str], **_: Any) -> dict[str, Any]:
        return {"input_ids": [[len(text), *map(ord, text)] for text in texts]}


def test_where_no_border_holds_the_whole_prompt_is_encoded_and_counted():
    prompts = PromptTokens(Borders(TextTokens(Backwards())), TEMPLATES["monoT5"])

    prompt = prompts.render({"query": "q", "a": "d"})

    text = "Query: q Document: d Relevant:"
    assert prompt.segments == ((len(text), *map(ord, text)),)
    assert not prompts.segments
    assert prompt.merged == 4


def test_verifying_gives_the_same_prompts(borders):
    sure = PromptTokens(borders, TEMPLATES["pairwise"], verify=True)
    texts = {"query": "who?", "a": "Me.", "b": "\n…"}

    assert sure.render(texts).segments == prompts_of(borders, "pairwise").render(texts).segments


def test_verifying_takes_the_whole_where_pieces_differ(monkeypatch):
    borders = Borders(TextTokens(llama3()))
    prompts = PromptTokens(borders, TEMPLATES["monoT5"], verify=True)
    monkeypatch.setattr(borders, "holds", lambda *place: True)
    texts = {"query": "who", "a": "'s\u0301 it"}

    prompt = prompts.render(texts)

    assert prompt.ids == prompts.whole(texts)


@pytest.mark.parametrize("name", ["monoT5", "pairwise", "listwise"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=TEXTS, second=TEXTS, room=st.integers(2, 30))
def test_documents_alone_are_cut_until_the_prompt_fits(borders, name, first, second, room):
    prompts = prompts_of(borders, name)
    texts = {"query": "what is it", "a": first, "b": second}
    bare = len(prompts.whole({"query": "what is it", "a": "", "b": ""}))

    try:
        prompt = prompts.render(texts, max_tokens=bare + room)
    except InputError:  # a document of which not even one character fits
        with pytest.raises(InputError, match="leaves no room"):
            prompts.render(texts, max_tokens=bare + room)
        return

    assert len(prompt) <= bare + room
    whole = prompts.render(texts)
    assert (prompt.cut == {}) == (len(whole) <= bare + room)
    if prompt.cut == {}:
        assert prompt.segments == whole.segments


def test_a_cut_prompt_is_the_prompt_of_cut_texts(borders):
    prompts = prompts_of(borders, "pairwise")
    texts = {"query": "which one?", "a": "short one", "b": "the cat sat on the mat " * 30}
    most = len(prompts.render(texts)) - 100

    prompt = prompts.render(texts, max_tokens=most)

    kept = borders.texts.beginning(texts["b"], prompts._length(texts["b"]) - prompt.cut["b"])
    assert set(prompt.cut) == {"b"}
    assert prompt.ids == prompts.whole({**texts, "b": kept})
    assert most - 3 <= len(prompt) <= most
    assert prompt.ids[-8:] == prompts.whole(texts)[-8:]


def test_each_document_has_a_most_of_its_own(borders):
    prompts = prompts_of(borders, "pairwise")

    prompt = prompts.render({"query": "q", "a": "cat " * 50, "b": "dog"}, document_tokens=10)

    assert set(prompt.cut) == {"a"}
    assert prompt.cut["a"] >= 30
    assert prompt.amounts["truncated_documents"] == 1
    assert prompt.amounts["truncated_tokens"] == prompt.cut["a"]


def test_a_query_that_leaves_no_room_is_refused(borders):
    prompts = prompts_of(borders, "pairwise")

    with pytest.raises(InputError, match=r"tokens without its 2 documents, which leaves no room .* max_tokens=40"):
        prompts.render({"query": "long " * 60, "a": "a text", "b": "a text"}, max_tokens=40)


def test_a_missing_text_and_half_a_character_are_refused():
    prompts = PromptTokens(Borders(TextTokens(llama3())), TEMPLATES["monoT5"])

    with pytest.raises(InputError, match=r"slots \['a', 'query'\], and no text for \['a'\]"):
        prompts.render({"query": "q"})
    with pytest.raises(InputError, match="half a character"):
        prompts.render({"query": "q", "a": "\ud800"})


def test_an_empty_template_is_refused():
    with pytest.raises(InputError, match="needs a text or a slot"):
        PromptTokens(Borders(TextTokens(llama3())), Template(()))


def test_a_text_is_tokenised_once_however_many_prompts_hold_it(monkeypatch):
    prompts = PromptTokens(Borders(TextTokens(llama3())), TEMPLATES["monoT5"])
    prompts.render({"query": "what is it", "a": "a cat"})

    again = prompts.render({"query": "what is it", "a": "a cat"})

    assert again.recalled == len(again) - 1  # all but the beginning of the text


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 200))
def test_shares_fill_the_room_and_favour_nobody(lengths, room):
    given_out = shares(lengths, room)

    assert sum(given_out) == min(sum(lengths), room)
    assert all(0 <= share <= length for share, length in zip(given_out, lengths, strict=True))
    cut = [share for share, length in zip(given_out, lengths, strict=True) if share < length]
    assert not cut or max(given_out) <= min(cut) + len(lengths)


# -- chat templates ------------------------------------------------------------------------------------------------

QWEN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<start>{{ message.role }}\n{{ message.content | trim }}<end>\n{% endfor %}"
    "<start>model\n"
)
FORGETFUL = (
    "{% for message in messages %}{% if message.role != 'system' %}[{{ message.content }}]{% endif %}{% endfor %}"
)


def with_template(template: str) -> Any:
    tokenizer = llama3()
    tokenizer.chat_template = template
    return tokenizer


MESSAGES = (("system", ["You rank."]), ("user", ["Query: ", QUERY, "\nDocument: ", A, "\nIs it relevant?"]))


def text_of(template: Template) -> str:
    return "".join(part if isinstance(part, str) else f"{{{part.name}}}" for part in template.parts)


def test_a_conversation_becomes_one_prompt_with_slots():
    template = chat(with_template(QWEN), MESSAGES)

    assert text_of(template) == (
        "<|im_start|>system\nYou rank.<|im_end|>\n<|im_start|>user\nQuery: {query}\nDocument: {a}\nIs it relevant?"
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert QUERY in template.parts
    assert A in template.parts


@pytest.mark.parametrize("thinking", [True, False])
def test_the_empty_thought_is_written_once(thinking):
    template = chat(with_template(QWEN), MESSAGES, thinking=thinking, answer="<think>\n\n</think>\n\n")

    assert text_of(template).count("<think>") == 1
    assert text_of(template).endswith("assistant\n<think>\n\n</think>\n\n")


def test_an_answer_begins_as_asked():
    assert text_of(chat(with_template(QWEN), MESSAGES, answer=" Passage:")).endswith("</think>\n\n Passage:")


@pytest.mark.parametrize("template", [GEMMA, FORGETFUL])
def test_a_template_without_a_system_role_gets_its_text_in_the_users_message(template):
    written = text_of(chat(with_template(template), MESSAGES))

    assert "You rank.\n\nQuery: {query}" in written


def test_the_beginning_of_a_text_is_marked_once():
    tokenizer = with_template(GEMMA)

    prompt = PromptTokens(Borders(TextTokens(tokenizer)), chat(tokenizer, MESSAGES)).render({"query": "q", "a": "d"})
    plain = PromptTokens(Borders(TextTokens(tokenizer)), TEMPLATES["monoT5"]).render({"query": "q", "a": "d"})
    written = PromptTokens(Borders(TextTokens(tokenizer)), Template(("<|begin_of_text|>Query: ", QUERY)))

    assert [ids.ids.count(tokenizer.bos_token_id) for ids in (prompt, plain, written.render({"query": "q"}))] == [1] * 3
    assert prompt.ids[0] == plain.ids[0] == tokenizer.bos_token_id


def test_what_transformers_writes_for_the_same_messages(borders):
    tokenizer = borders.texts.tokenizer
    template = tokenizer.chat_template or QWEN
    texts = {"query": "what is it?", "a": "The cat sat."}
    spoken = [
        {"role": role, "content": "".join(part if isinstance(part, str) else texts[part.name] for part in parts)}
        for role, parts in MESSAGES
    ]
    tokenizer.chat_template = template
    expected = tokenizer.apply_chat_template(spoken, add_generation_prompt=True, enable_thinking=False)["input_ids"]

    prompt = PromptTokens(borders, chat(tokenizer, MESSAGES)).render(texts)

    assert prompt.ids == expected


def test_a_tokenizer_without_a_chat_template_and_messages_it_refuses():
    with pytest.raises(InputError, match="has no chat template"):
        chat(llama3(), MESSAGES)
    with pytest.raises(InputError, match="refuses messages from user"):
        chat(with_template("{{ raise_exception('no') }}"), MESSAGES[1:])


def test_smollm2s_own_template_is_followed(smollm: Path):
    tokenizer = AutoTokenizer.from_pretrained(smollm)

    prompt = PromptTokens(Borders(TextTokens(tokenizer)), chat(tokenizer, MESSAGES)).render({"query": "q", "a": "d."})

    assert tokenizer.decode(prompt.ids) == (
        "<|im_start|>system\nYou rank.<|im_end|>\n<|im_start|>user\nQuery: q\nDocument: d.\nIs it relevant?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.usefixtures("minilm", "flan")
def test_the_pages_examples_run(tmp_path, monkeypatch):
    page = Path(__file__).resolve().parents[2] / "docs/tokens.md"
    left: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)

    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M):
        exec(compile(block, "docs/tokens.md", "exec"), left)

    assert len(left["prompt"].segments) == 6
    assert left["prompt"].merged == 0
    assert (tmp_path / "tokens" / "minilm" / "store.json").exists()
