"""Texts that end where a stop string begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Decoder", "ends_of"]

SLACK = 8  # tokens that may say nothing: special ones, or parts of a character


class Decoder:
    """What was written, as text.

    Args:
        tokenizer: of transformers.
        stop: strings at which a text ends.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        # a token has a byte at least, so that a stop string that has just been completed begins among the last so many
        self._window = max((len(each.encode()) for each in stop), default=0) + SLACK

    def text(self, ids: Sequence[int]) -> str:
        """All of it, without special tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def stopped(self, ids: Sequence[int]) -> tuple[str, str] | None:
        """The text up to the first stop string, and which that is; None while there is none."""
        if not self._stop or _first(self.text(ids[-self._window :]), self._stop) is None:
            return None
        text = self.text(ids)
        found = _first(text, self._stop)
        return None if found is None else (text[: text.index(found)], found)


def _first(text: str, stop: Sequence[str]) -> str | None:
    """The stop string that begins first, the longest of those that begin together."""
    found = [each for each in stop if each in text]
    return min(found, key=lambda each: (text.index(each), -len(each))) if found else None


def ends_of(model: Any) -> frozenset[int]:
    """The tokens that the model's configuration ends texts with."""
    for config in (getattr(model, "generation_config", None), model.config):
        ids = getattr(config, "eos_token_id", None)
        if ids is not None:
            return frozenset([ids] if isinstance(ids, int) else ids)
    return frozenset()
