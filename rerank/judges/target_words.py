"""Words to token ids, as a model would go on with them; a word that is no single token is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank.engine.texts.text_tokens import special_tokens
from rerank.errors import InputError

__all__ = ["added_ids", "continuation", "spaces", "target_ids"]

SPACED = (":", ",", ";")
"""Behind these and behind words a text goes on with a space; behind a line break or a bracket it does not."""

LIKE_A_WORD = "▁"


def target_ids(tokenizer: Any, words: Sequence[str], *, behind: str) -> tuple[int, ...]:
    """The token of each word.

    Words are written as a text would go on: with a space behind a word, without one behind a line break or a bracket,
    and behind a colon in the first of these two ways that makes one token of each of them. A word that says its space
    itself is taken as it stands; one that begins with "▁", or that the tokenizer knows as special, is looked up.

    Args:
        tokenizer: of transformers.
        words: each must be one token.
        behind: the text in front, or "" where the word begins a text of its own (a T5's answer).

    Raises:
        InputError: when a word is several tokens there, which it names, or two words are the same token.
    """
    tried = [[_pieces(tokenizer, f"{space}{word}", word, behind) for word in words] for space in spaces(behind)]
    chosen = next((pieces for pieces in tried if all(len(ids) == 1 for ids in pieces)), tried[0])
    for word, ids in zip(words, chosen, strict=True):
        if len(ids) != 1:
            raise _no_token(tokenizer, word, ids, behind)
    found = tuple(ids[0] for ids in chosen)
    if len(set(found)) < len(found):
        raise InputError(f"the targets {', '.join(map(repr, words))} are tokens {found}: two of them are the same")
    return found


def continuation(tokenizer: Any, text: str, *, behind: str) -> tuple[int, ...]:
    """The tokens of a text behind another. Those of the text by itself, where the tokenizer reads across the border.

    Special tokens that the text spells out are broken up, as everywhere in what users write.
    """
    return added_ids(tokenizer, spaces(behind)[0] + special_tokens(tokenizer).plain(text).text, behind=behind)


def added_ids(tokenizer: Any, text: str, *, behind: str) -> tuple[int, ...]:
    """The tokens of a text behind another, spelt as it is; by itself, where the tokenizer reads across the border."""
    return _behind(tokenizer, text, behind) or _ids(tokenizer, text)


def _pieces(tokenizer: Any, spelt: str, word: str, behind: str) -> tuple[int, ...]:
    if word.startswith(LIKE_A_WORD) or word in tokenizer.all_special_tokens:
        known = tokenizer.get_vocab().get(word)
        return () if known is None else (int(known),)
    return _behind(tokenizer, word if word[:1].isspace() else spelt, behind)


def _no_token(tokenizer: Any, word: str, ids: Sequence[int], behind: str) -> InputError:
    where = f"behind {behind[-20:]!r}" if behind else "at the beginning of an answer"
    pieces = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(list(ids))))
    read = f"reads it as {pieces}" if pieces else "reads it together with that, or has no such token"
    return InputError(f"the target {word!r} must be one token {where}, and the tokenizer {read}; choose another word")


def spaces(behind: str) -> tuple[str, ...]:
    """What may stand between a text and the word that goes on with it, the likelier first."""
    if not behind:
        return ("",)
    if behind[-1].isalnum():
        return (" ",)
    return (" ", "") if behind.endswith(SPACED) else ("",)


def _behind(tokenizer: Any, text: str, behind: str) -> tuple[int, ...]:
    """What a text adds to the tokens of the one in front; nothing when it changes those.

    White space at the end of a prompt is tokens already, and what is written goes on behind them: a tokenizer that
    would cut it otherwise in front of a word changes nothing of that.
    """
    before, whole = _ids(tokenizer, behind) if behind else (), _ids(tokenizer, behind + text)
    if whole[: len(before)] == before:
        return whole[len(before) :]
    return _ids(tokenizer, text) if behind[-1:].isspace() else ()


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
