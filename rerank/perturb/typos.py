"""One slip of the fingers in a query: five kinds, as Zhuang and Zuccon type them (2021, https://arxiv.org/abs/2108.12139).

A word of at least three letters that carries meaning is chosen by chance, and one of its letters. A query without such
a word stays as it is.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from random import Random

__all__ = ["delete", "insert", "neighbour", "substitute", "swap"]

SHORTEST = 3

FUNCTION_WORDS = frozenset((
    "about", "after", "all", "also", "and", "any", "are", "because", "been", "before", "but", "can", "did",
    "does", "for", "from", "had", "has", "have", "her", "his", "how", "into", "its", "may", "more", "most",
    "not", "off", "one", "only", "other", "our", "out", "over", "should", "some", "such", "than", "that", "the",
    "their", "them", "then", "there", "these", "they", "this", "those", "through", "under", "was", "were",
    "what", "when", "where", "which", "who", "whom", "whose", "why", "will", "with", "would", "you", "your",
))  # fmt: skip
"""Words in which a slip says little: nobody searches by them."""

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Of a QWERTY keyboard; each row begins half a key further to the right."""

Slip = Callable[[str, Random], "str | None"]
"""(word, chance) -> the word with a slip in it; None where the word cannot have one."""


def insert(query: str, chance: Random) -> str:
    """A letter too many, any of a to z."""
    return _in_a_word(query, chance, _insert)


def delete(query: str, chance: Random) -> str:
    """A letter too few."""
    return _in_a_word(query, chance, _delete)


def substitute(query: str, chance: Random) -> str:
    """Another letter in the place of one, any of a to z."""
    return _in_a_word(query, chance, _substitute)


def swap(query: str, chance: Random) -> str:
    """Two different letters that stand side by side, the wrong way round."""
    return _in_a_word(query, chance, _swap)


def neighbour(query: str, chance: Random) -> str:
    """The letter of the next key, on a QWERTY keyboard."""
    return _in_a_word(query, chance, _neighbour)


def _in_a_word(query: str, chance: Random, slip: Slip) -> str:
    words = [word for word in re.finditer(r"[^\W\d_]+", query) if len(word[0]) >= SHORTEST]
    telling = [word for word in words if word[0].casefold() not in FUNCTION_WORDS]
    for word in chance.sample(telling, len(telling)):
        if (slipped := slip(word[0], chance)) is not None:
            return f"{query[: word.start()]}{slipped}{query[word.end() :]}"
    return query


def _insert(word: str, chance: Random) -> str:
    place = chance.randint(1, len(word))
    return word[:place] + chance.choice(string.ascii_lowercase) + word[place:]


def _delete(word: str, chance: Random) -> str:
    place = chance.randrange(len(word))
    return word[:place] + word[place + 1 :]


def _substitute(word: str, chance: Random) -> str:
    place = chance.randrange(len(word))
    others = [letter for letter in string.ascii_lowercase if letter != word[place].lower()]
    return word[:place] + _as(word[place], chance.choice(others)) + word[place + 1 :]


def _swap(word: str, chance: Random) -> str | None:
    places = [place for place in range(len(word) - 1) if word[place] != word[place + 1]]
    if not places:
        return None
    place = chance.choice(places)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _neighbour(word: str, chance: Random) -> str | None:
    places = [place for place, letter in enumerate(word) if letter.lower() in _NEXT]
    if not places:
        return None
    place = chance.choice(places)
    return word[:place] + _as(word[place], chance.choice(_NEXT[word[place].lower()])) + word[place + 1 :]


def _as(model: str, letter: str) -> str:
    """Large where the letter before it was."""
    return letter.upper() if model.isupper() else letter


def _next_keys() -> dict[str, str]:
    """letter -> the letters whose keys touch its own."""
    places = {letter: (row, column + row / 2) for row, keys in enumerate(ROWS) for column, letter in enumerate(keys)}
    return {
        letter: "".join(
            other
            for other, (there, across) in places.items()
            if other != letter and abs(there - row) <= 1 and abs(across - column) <= 1
        )
        for letter, (row, column) in places.items()
    }


_NEXT = _next_keys()
