"""Texts as prompts show them: as long as was published, and without anything that looks like an identifier."""

from __future__ import annotations

import re

__all__ = ["count_identifiers", "shortened", "without_identifiers"]

BRACKETED = re.compile("[\\[［]([\\s\u200b-\u200f\u2060\ufeff]*\\w{1,3}[\\s\u200b-\u200f\u2060\ufeff]*)[\\]］]")
"""As answers are read, and in the disguises that tokenizers see through: full-width brackets, invisible characters."""


def shortened(text: str, words: int | None = None, characters: int | None = None) -> str:
    """The beginning of a text, its white space made single spaces, as those who published the limits make it.

    Args:
        text: any.
        words: the most words, between white space; None: all.
        characters: the most characters, spaces included; None: all.
    """
    return " ".join(text.split()[:words])[:characters]


def without_identifiers(text: str) -> str:
    """A text in which nothing in brackets can be taken for an identifier: [3] becomes (3)."""
    return BRACKETED.sub(r"(\1)", text)


def count_identifiers(text: str) -> int:
    """How many brackets of a text `without_identifiers` turns into parentheses."""
    return len(BRACKETED.findall(text))
