"""Pairs put together from pieces are the pairs that the tokenizer itself would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rerank.engine.tokens import Pair, PairTokens
from rerank.errors import InputError

CORPUS = [
    "What is a reranker? It puts documents in order.",
    "Ünïcode: 東京 (2023), naïve café — déjà vu!",
    "a b c d " * 9,
]
TEXTS = st.text(max_size=60) | st.sampled_from(["", " ", "what is it", "the cat sat on the mat " * 30])


def byte_level() -> PreTrainedTokenizerFast:
    """Of RoBERTa's shape: byte-level BPE, <s> q </s></s> d </s>."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


def metaspace() -> PreTrainedTokenizerFast:
    """Of XLM-R's and DeBERTa-v3's shape: Unigram pieces with ▁, one separator."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="[UNK]")
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


class Joined:
    """A tokenizer whose pairs are no pieces side by side: it joins the texts first."""

    def __call__(
        self, first: Any, second: Any = None, *, truncation: Any = False, max_length: int = 0, **_: Any
    ) -> Any:
        texts = first if second is None else [f"{b} <- {a}" for a, b in zip(first, second, strict=True)]
        ids = [[ord(letter) for letter in text] for text in texts]
        return {"input_ids": [row[-max_length:] for row in ids] if truncation else ids}


@pytest.fixture(scope="module")
def wordpiece(minilm: Path) -> Any:
    """The real one."""
    return AutoTokenizer.from_pretrained(minilm)


@pytest.fixture(scope="module", params=["wordpiece", "byte_level", "metaspace"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "wordpiece":
        return request.getfixturevalue("wordpiece")
    return {"byte_level": byte_level, "metaspace": metaspace}[request.param]()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=TEXTS, document=TEXTS)
def test_pieces_make_the_tokenizers_own_pair(tokenizer, query, document):
    tokens = PairTokens(tokenizer, 100_000)
    expected = tokenizer([query], [document], truncation=False, verbose=False)
    ids = expected["input_ids"][0]

    [pair] = tokens.pairs([query], [document])

    assert tokens.segments
    assert pair.ids.tolist() == ids
    assert pair.types.tolist() == expected.get("token_type_ids", [[0] * len(ids)])[0]
    assert pair.cut == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=st.text(alphabet="abc def", min_size=1, max_size=200), room=st.integers(1, 40))
def test_only_the_document_is_cut_and_what_is_cut_is_counted(tokenizer, document, room):
    query = "what is a reranker"
    whole, empty = tokenizer([query] * 2, [document, ""], truncation=False, verbose=False)["input_ids"]
    most = len(empty) + room

    [pair] = PairTokens(tokenizer, most).pairs([query], [document])

    assert len(pair.ids) == min(len(whole), most) == len(pair.types)
    assert pair.cut == max(0, len(whole) - most)
    options = {"truncation": "only_second", "max_length": most, "verbose": False}
    assert [pair.ids.tolist()] == tokenizer([query], [document], **options)["input_ids"]


def test_every_text_is_tokenised_once(wordpiece, monkeypatch):
    tokens = PairTokens(wordpiece, 100)
    seen: list[str] = []
    encode = tokens.texts._encode
    monkeypatch.setattr(tokens.texts, "_encode", lambda texts: (seen.extend(texts), encode(texts))[1])

    tokens.pairs(["one", "one", "two", "two"], ["x", "y", "x", "x"])

    assert sorted(seen) == ["one", "two", "x", "y"]


def test_a_text_is_not_tokenised_again_in_a_later_call_and_that_is_counted(wordpiece, monkeypatch):
    tokens = PairTokens(wordpiece, 100)
    [first] = tokens.pairs(["who"], ["the cat sat"])
    monkeypatch.setattr(tokens.texts, "_encode", lambda texts: pytest.fail(f"tokenised again: {texts}"))

    [again] = tokens.pairs(["the cat sat"], ["who"])
    [same] = tokens.pairs(["who"], ["the cat sat"])

    assert (first.recalled, again.recalled, same.recalled) == (0, 1, 3)
    assert same.ids.tolist() == first.ids.tolist()


def test_a_query_that_leaves_no_room_is_an_error_of_its_own(wordpiece):
    tokens = PairTokens(wordpiece, 8)

    short, long = tokens.pairs(["one two", "one two three four five six"], ["a text", "a text"])

    assert isinstance(short, Pair)
    assert isinstance(long, InputError)
    assert "the query takes 6 tokens" in str(long)
    assert "max_tokens=8" in str(long)


def test_a_tokenizer_that_joins_texts_its_own_way_encodes_whole_pairs():
    tokens = PairTokens(Joined(), 20)

    pair, cut = tokens.pairs(["who", "who"], ["me", "a very long document"])

    assert not tokens.segments
    assert "".join(map(chr, pair.ids)) == "me <- who"
    assert (len(cut.ids), cut.cut) == (20, 7)


def test_a_text_that_is_no_text_fails_alone(wordpiece):
    fine, broken = PairTokens(wordpiece, 100).pairs(["who", "who"], ["me", "half a character: \ud800"])

    assert isinstance(fine, Pair)
    assert isinstance(broken, InputError)
    assert "'\\ud800'" in str(broken)
