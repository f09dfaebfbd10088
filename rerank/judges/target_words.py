"""Words to token ids, as a model would go on with them; a word that is no single token is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank.errors import InputError

__all__ = ["continuation", "target_ids"]

SPACED = (":", ",", ";")
"""Behind these and behind words a text goes on with a space; behind a line break or a bracket it does not."""

LIKE_A_WORD = "▁"


def target_ids(tokenizer: Any, words: Sequence[str], *, behind: str) -> tuple[int, ...]:
    """The token of each word.

    A word is tried as it would be written behind a text, with or without a space; one that says its space itself is
    tried as it stands. A word that begins with "▁", or that the tokenizer knows as a special token, is looked up.

    Args:
        tokenizer: of transformers.
        words: each must be one token.
        behind: the text in front, or "" where the word begins a text of its own (a T5's answer).

    Raises:
        InputError: when a word is several tokens there, which it names, or two words are the same token.
    """
    ids = tuple(_token(tokenizer, word, behind) for word in words)
    if len(set(ids)) < len(ids):
        raise InputError(f"the targets {', '.join(map(repr, words))} are tokens {ids}: two of them are the same")
    return ids


def continuation(tokenizer: Any, text: str, *, behind: str) -> tuple[int, ...]:
    """The tokens of a text behind another. Those of the text by itself, where the tokenizer reads across the border."""
    spelt = _spellings(text, behind)[0]
    return _behind(tokenizer, spelt, behind) or _ids(tokenizer, spelt)


def _token(tokenizer: Any, word: str, behind: str) -> int:
    if word.startswith(LIKE_A_WORD) or word in tokenizer.all_special_tokens:
        known = tokenizer.get_vocab().get(word)
        if known is None:
            raise InputError(f"the tokenizer has no token {word!r}")
        return int(known)
    for spelt in _spellings(word, behind):
        ids = _behind(tokenizer, spelt, behind)
        if len(ids) == 1:
            return ids[0]
    pieces = tokenizer.convert_ids_to_tokens(_ids(tokenizer, _spellings(word, behind)[0]))
    raise InputError(
        f"the target {word!r} must be one token behind {behind[-20:]!r}, and the tokenizer reads it as "
        f"{', '.join(map(repr, pieces))}; choose another word"
    )


def _spellings(word: str, behind: str) -> list[str]:
    """How a word may be written behind a text, the likelier first."""
    if word[:1].isspace() or not behind:
        return [word]
    spaced = behind[-1].isalnum() or behind.endswith(SPACED)
    return [f" {word}", word] if spaced else [word, f" {word}"]


def _behind(tokenizer: Any, text: str, behind: str) -> tuple[int, ...]:
    """What a text adds to the tokens of the one in front; nothing when it changes those."""
    before, whole = _ids(tokenizer, behind) if behind else (), _ids(tokenizer, behind + text)
    return whole[len(before) :] if whole[: len(before)] == before else ()


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
