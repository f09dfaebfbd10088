"""Where a text may be cut so that the ids of its pieces, side by side, are the ids of the whole.

Tokenizers read across borders: "Document: " and "cat" apart are other tokens than "Document: cat". Whether a border
holds is tried on what stands around it. A single space between two words always parts what a tokenizer merges, so
looking from the last such space to the next one is as good as looking at everything; where there is none (Chinese, a
long number) `SIGHT` characters on either side are looked at.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product

import numpy as np

from rerank.engine.texts.text_tokens import TextTokens
from rerank.engine.texts.token_store import Ids

__all__ = ["PROBES", "Borders"]

PROBES = (
    "what is it",
    "The cat (a text) sat.",
    "Ünïcode, naïve café!",
    "東京は日本の首都です。",
    "2023 was 365 days, 1%",
    '"So," he said: "Go?"',
    "(mixed-Case [1] text)",
    "a",
)
"""Texts that begin and end as queries and documents usually do."""

SIGHT = 128
FARTHEST = 48  # characters of a template that may be read with a slot beside them
BETWEEN_WORDS = re.compile(r"(?<=\S) (?=\S)")
UP_TO_THE_LAST = re.compile(r".*\S(?= \S)", re.DOTALL)
BEHIND = ("", "\n", "a\n", ".")


class Borders:
    """What one tokenizer reads across, and what not.

    Args:
        texts: the tokenizer's.

    Attributes:
        after: what pieces in the middle of a text must be read behind, so that the tokenizer does not take them for
            beginnings (SentencePiece puts a space in front of those); empty for most.
    """

    def __init__(self, texts: TextTokens) -> None:
        self.texts = texts
        self.after = next((after for after in BEHIND if self._reads_on(after)), "")
        self._tried = lru_cache(maxsize=65_536)(self._try)

    def holds(self, whole: str, start: int, border: int) -> bool:
        """Whether the piece of `whole` from `start` to `border` may be read apart from what follows it."""
        begin = max(start, border - SIGHT)
        if whole[begin:border].isspace():  # where a run of white space is cut depends on how long all of it is
            begin = start + max(0, len(whole[start:border].rstrip()) - 1)
        left = _tail(whole[begin:border])
        right = _head(whole[border : border + SIGHT])
        return self._tried(left, right, start == 0 and len(left) == border)

    def cuts(self, fixed: str, *, left: bool, right: bool) -> tuple[int, int] | None:
        """Where a template's text is cut from the slots beside it: the first place and the last that hold.

        Args:
            fixed: the text.
            left, right: whether there is a slot in front of it, and behind it; what holds is tried with `PROBES` there.

        Returns:
            What stands in front of the first place is read with the slot on the left, and what stands behind the
            second with the one on the right; None when no place holds.
        """
        ends = range(0 if left else 1, len(fixed) + 1 if right else len(fixed))
        places = [index for index in ends if min(index, len(fixed) - index) <= FARTHEST]
        first = next((place for place in places if self._usual(fixed, place, left, right)), None) if left else 0
        last = next((place for place in places[::-1] if self._usual(fixed, place, left, right)), None) if right else 0
        if first is None or last is None:
            return None
        return first, last if right else len(fixed)

    def _usual(self, fixed: str, place: int, left: bool, right: bool) -> bool:
        fronts = PROBES if left else ("",)
        backs = PROBES if right else ("",)
        pairs = [*product(fronts, backs[:1]), *product(fronts[:1], backs)]
        return all(self.holds(front + fixed + back, 0, len(front) + place) for front, back in pairs)

    def _try(self, left: str, right: str, first: bool) -> bool:
        if not left or not right:
            return True
        whole, front = self.texts.encode([left + right, left], after="" if first else self.after)
        [back] = self.texts.encode([right], after=self.after)
        return _same(whole, front, back)

    def _reads_on(self, after: str) -> bool:
        """Whether pieces read behind a text are what they are in the middle of one."""
        encode = self.texts.encode
        for front, back in (("What is it?", " The text"), ("One.\n", "Two"), ("(", "three")):
            [whole, left], [right] = encode([front + back, front]), encode([back], after=after)
            if not _same(whole, left, right):
                return False
        return True


def _same(whole: Ids, *parts: Ids) -> bool:
    return np.array_equal(whole, np.concatenate(parts))


def _tail(text: str) -> str:
    """From the last space between words to the end."""
    front = UP_TO_THE_LAST.match(text)
    return text[front.end() :] if front else text


def _head(text: str) -> str:
    """Up to the first space between words."""
    space = BETWEEN_WORDS.search(text, 1)
    return text[: space.start()] if space else text
