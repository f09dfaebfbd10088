"""Text into index terms, as near to Anserini's default English analyser as Python's libraries allow.

That analyser is Lucene's EnglishAnalyzer: words by Unicode's segmentation rules (UAX #29), without a possessive 's, in
lower case, without 33 stop words, stemmed by Porter's first algorithm with two of the rules he added later. Of 684,459
terms that Anserini made of NovelEval, Cranfield and 3,000 documents of SciFact, 1 is another here. What differs:

- a word of more than 255 characters is not split;
- lower case is Python's, which makes two characters of the Turkish dotted I and knows the Greek final sigma;
- the version of Unicode is that of the `regex` package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from rerank.errors import InputError
from rerank.registry import did_you_mean

__all__ = ["EXAMPLE", "STEMMERS", "STOP_WORDS", "Analyser", "readable"]

# fmt: off
LUCENE_STOP_WORDS = frozenset((  # EnglishAnalyzer.ENGLISH_STOP_WORDS_SET
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of",
    "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with",
))
# fmt: on

STOP_WORDS: Mapping[str, frozenset[str]] = {"english": LUCENE_STOP_WORDS, "none": frozenset()}

STEMMERS = ("porter", "english", "none")
"""Porter's first algorithm, his second (Snowball's English), or words as they are."""

EXAMPLE = (
    "Us users' U.S. policies don't relate to the naïve café's 3.14 e-mails, possibly; 東京タワー foo_bar's running"
)
"""Analysed when an index is built and again when it is opened: an analyser that changed in between is noticed."""

SHORTEST_STEMMED = 3
"""Porter leaves words of one or two letters alone, and so does Lucene; Snowball would make `us` into `u`."""

LATER_RULES = (("bli", "ble"), ("logi", "log"))
"""What Porter added to his second step and Lucene has; Snowball's edition of the stemmer keeps to the paper."""

HAS_MEASURE = re.compile("[aeiou][^aeiou]|(?<=[^aeiou])y[^aeiou]")
"""Porter's m > 0: a vowel with a consonant behind it."""

POSSESSIVE_MARKS = "'\u2019\uff07"


class Analyser:
    """The words of a text, and the term that a word is indexed under.

    Args:
        stop_words: "english" (Lucene's 33) or "none".
        stemmer: "porter", "english" (Porter's second) or "none".

    Raises:
        InputError: when either is something else.
    """

    def __init__(self, stop_words: str = "english", stemmer: str = "porter") -> None:
        _check("stop_words", stop_words, STOP_WORDS)
        _check("stemmer", stemmer, STEMMERS)
        self._stop_words = STOP_WORDS[stop_words]
        self._stem = _stemmer(stemmer)

    def __call__(self, text: str) -> list[str]:
        """The terms of a text, in order."""
        return [term for word in words(text) if (term := self.term(word)) is not None]

    def term(self, word: str) -> str | None:
        """What a word is indexed under; None for a stop word."""
        if len(word) > 2 and word[-1] in "sS" and word[-2] in POSSESSIVE_MARKS:
            word = word[:-2]
        word = word.lower()
        if word in self._stop_words:
            return None
        return self._stem(word) if len(word) >= SHORTEST_STEMMED else word


def words(text: str) -> list[str]:
    """The words of a text by the word boundaries of UAX #29, without blanks, punctuation and symbols.

    An ideograph, a hiragana sign and an emoji are each a word.
    """
    found: list[str] = (ASCII_WORD if text.isascii() else _unicode_word()).findall(text)
    return found


def readable(text: str) -> str:
    """A text as it can be encoded: what is half a character becomes U+FFFD, as it would in Lucene's index."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# What UAX #29 comes to in ASCII, for speed: a dot, a colon or an apostrophe joins letters; a dot, a comma, a semicolon
# or an apostrophe joins digits; an underscore joins both and is no word alone.
ASCII_WORD = re.compile(
    r"_*(?=[A-Za-z0-9])(?:[A-Za-z0-9_]+|(?<=[A-Za-z])[.:'](?=[A-Za-z])|(?<=[0-9])[.,;'](?=[0-9]))+",
)


@lru_cache(maxsize=1)
def _unicode_word() -> Any:
    import regex

    letter = r"\p{WB=ALetter}\p{WB=Hebrew_Letter}"
    digit = r"\p{WB=Numeric}"
    joiner = r"\p{WB=ExtendNumLet}"
    mark = r"\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}"  # belongs to the character before it (rule WB4)
    between = r"\p{WB=MidNumLet}\p{WB=Single_Quote}"
    return regex.compile(
        rf"[{joiner}]*(?=[{letter}{digit}])(?:"
        rf"[{letter}{digit}{joiner}{mark}]+"
        rf"|(?<=[{letter}][{mark}]*)[\p{{WB=MidLetter}}{between}][{mark}]*(?=[{letter}])"  # WB6, WB7
        rf"|(?<=[{digit}][{mark}]*)[\p{{WB=MidNum}}{between}][{mark}]*(?=[{digit}])"  # WB11, WB12
        rf")+"
        rf"|\p{{WB=Katakana}}[\p{{WB=Katakana}}{mark}]*"
        rf"|[\p{{Han}}\p{{Hiragana}}][{mark}]*"
        rf"|\p{{Line_Break=Complex_Context}}[\p{{Line_Break=Complex_Context}}{mark}]*"
        rf"|\p{{Extended_Pictographic}}[{mark}]*(?:(?<=\u200d)\p{{Extended_Pictographic}}[{mark}]*)*"  # WB3c
        rf"|\p{{Regional_Indicator}}{{2}}"  # a flag
    )


def _stemmer(name: str) -> Callable[[str], str]:
    if name == "none":
        return str
    import Stemmer

    stem: Callable[[str], str] = Stemmer.Stemmer(name).stemWord
    return partial(_with_later_rules, stem) if name == "porter" else stem


def _with_later_rules(stem: Callable[[str], str], word: str) -> str:
    """`possibly` is `possibli` by the paper's rules, and `possibl` like `possible` by the later ones."""
    stemmed = stem(word)
    for ending, later in LATER_RULES:
        root = stemmed.removesuffix(ending)
        # the second step sees the ending only where the first one made it, and not the `wobbli` of `wobbliness`
        if root != stemmed and word.endswith(("y", "i", "ies", "ied")) and HAS_MEASURE.search(root):
            return stem(root + later)
    return stemmed


def _check(option: str, value: object, known: Any) -> None:
    if value not in known:
        raise InputError(f"{option} is {value!r}{did_you_mean(str(value), known)}")
