"""Special tokens that a text spells out, broken up: what users and documents say is text, whatever it looks like.

A tokenizer reads "</s>", "[SEP]" or "<|im_end|>" inside a passage as the token itself, and whoever writes passages
could end the prompt there. A space behind the first character of each leaves words and makes it text again. What is
found is what the tokenizer makes a token of, so that full-width and invisible characters, which some normalise away,
hide nothing.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["Plain", "SpecialTokens"]

MARKUP = re.compile(r"<[^<>\s][^<>]*>|\[[^\[\]\s][^\[\]]*\]")
HTML = re.compile(
    r"table|caption|thead|tbody|tfoot|tr|th|td|h[1-6]|blockquote|strong|em|b|i|u|s|sub|sup|code",
)
"""Elements that some vocabularies have as added tokens, for the web pages that they were trained on."""

INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""Control and format characters, which normalisers drop."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A text in which no special token is spelt out.

    Args:
        written: as it was.
        breaks: where a space was put into it, one for each special token that it spelt out.
    """

    written: str
    breaks: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """As it is read."""
        ends = (0, *self.breaks, len(self.written))
        return " ".join(self.written[start:end] for start, end in pairwise(ends)) if self.breaks else self.written

    def origin(self, place: int) -> int:
        """Where in the text as it was written a place of the text as it is read stands."""
        return place - bisect_left([at + earlier for earlier, at in enumerate(self.breaks)], place)


class SpecialTokens:
    """What one tokenizer takes for special tokens.

    These are its added tokens that are marked as special, and others in angle or square brackets that control a model
    ("<think>", "<tool_call>"); not the elements of HTML and the runs of white space that some vocabularies hold.

    Args:
        tokenizer: of transformers.
        backend: its fast half, or None.
    """

    def __init__(self, tokenizer: Any, backend: Any) -> None:
        added = getattr(tokenizer, "added_tokens_decoder", None) or {}
        self.spelt = {int(index): str(token.content) for index, token in added.items() if _controls(token)}
        self._backend = backend
        self._unknown = getattr(tokenizer, "unk_token_id", None)
        self._firsts = {text[0] for text in self.spelt.values()}
        longest_first = sorted(self.spelt.values(), key=len, reverse=True)
        self._any = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)", re.IGNORECASE)

    def plain(self, text: str) -> Plain:
        """The text, broken up where it spells out a special token; as it is where it spells out none."""
        plain = Plain(text)
        if not self._may_hold(text):
            return plain
        while more := set(self._places(plain)):
            plain = Plain(text, tuple(sorted({*plain.breaks, *more})))
        return plain

    def _may_hold(self, text: str) -> bool:
        """Whether the text, or what a normaliser may make of it, spells one out."""
        if text.isascii() and not any(first in text for first in self._firsts):
            return False
        return self._any.search(INVISIBLE.sub("", unicodedata.normalize("NFKC", text))) is not None

    def _places(self, plain: Plain) -> Iterator[int]:
        """Where to break each token that is still there: behind its first character, or the next one not broken yet."""
        text = plain.text
        for start, end in self._spans(text):
            first = start + len(text[start:end]) - len(text[start:end].lstrip())
            begin, stop = plain.origin(first), plain.origin(end)
            yield from [place for place in range(begin + 1, stop) if place not in plain.breaks][:1]

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where special tokens stand in a text. An unknown token counts where the text spells it out."""
        if self._backend is None:
            yield from (found.span() for found in self._any.finditer(text) if found.group() in self.spelt.values())
            return
        encoded = self._backend.encode(text, add_special_tokens=False)
        for token, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
            if token in self.spelt and (token != self._unknown or text[start:end].strip() == self.spelt[token]):
                yield start, end


def _controls(token: Any) -> bool:
    """Whether an added token tells a model something; one character cannot be spelt otherwise."""
    text = str(token.content).strip()
    if len(text) < 2:
        return False
    return bool(token.special) or (MARKUP.fullmatch(text) is not None and not HTML.fullmatch(text.strip("</>")))
