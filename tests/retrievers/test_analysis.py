"""Text into terms, as Anserini's default analyser makes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.errors import InputError
from retrievers.analysis import ASCII_WORD, Analyser, _unicode_word, words

# recorded from DefaultEnglishAnalyzer of Anserini 1.6.0
ANSERINI = [
    (
        "The quick brown foxes weren't jumping over the lazy dog's bed.",
        "quick brown fox weren't jump over lazi dog bed",
    ),
    (
        "the U.S. and U.S.A. policies: 3.14, 1,000; foo_bar a:b x-ray __init__ ___ 3a.b 1990's O'Neill\u2019s",
        "u. u.s.a polici 3.14 1,000 foo_bar a:b x rai __init__ 3a.b 1990 s o'neil",
    ),
    (
        "us is as by be ties sky possibly wobbliness assemblies analogies technology logy relational conditional",
        "us ti sky possibl wobbli assembl analog technolog logi relat condit",
    ),
    (
        "naïve café's cafe\u0301s Straße ΑΘΗΝΑ Москва שלום ד״ר ไทยแลนด์ 東京タワーひらがな 서울특별시 \u200bzero",
        "naïv café cafe\u0301 straße αθηνα москва שלום ד״ר ไทยแลนด์ 東 京 タワー ひ ら が な 서울특별시 zero",
    ),
    (
        "I \u2764\ufe0f \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea © fun \U0001f44d\U0001f3fd",
        "i \u2764\ufe0f \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea © fun \U0001f44d\U0001f3fd",
    ),
    (
        "1.a a.1 1,2,3 a,b a;b 1;2 a'b 'a' 1'2 a.b.c. .5 $5.00 50% C++ C# .NET AT&T a@b.com http://x.org/y?z=1",
        "1 1 1,2,3 b b 1;2 a'b 1'2 a.b.c 5 5.00 50 c c net t b.com http x.org y z 1",
    ),
    ("it is the and of", ""),
    ("", ""),
]


@pytest.mark.parametrize(("text", "terms"), ANSERINI)
def test_terms_are_anserinis(text, terms):
    assert Analyser()(text) == terms.split()


@given(st.text(st.characters(max_codepoint=127)))
def test_the_fast_pattern_for_ascii_finds_what_the_full_one_finds(text):
    assert ASCII_WORD.findall(text) == _unicode_word().findall(text)


@given(st.text())
def test_words_lie_in_the_text_in_order_and_never_overlap(text):
    rest = text
    for word in words(text):
        _before, found, rest = rest.partition(word)

        assert found
        assert word.strip() == word


def test_stop_words_and_stems_can_be_switched_off():
    text = "The happily running ones' generation"

    assert Analyser("none", "none")(text) == ["the", "happily", "running", "ones", "generation"]
    assert Analyser("english", "none")(text) == ["happily", "running", "ones", "generation"]
    assert Analyser("english", "english")(text) == ["happili", "run", "one", "generat"]


@pytest.mark.parametrize(("stop_words", "stemmer"), [("german", "porter"), ("english", "portr")])
def test_unknown_names_are_refused(stop_words, stemmer):
    with pytest.raises(InputError, match=r"german|did you mean 'porter'"):
        Analyser(stop_words, stemmer)
