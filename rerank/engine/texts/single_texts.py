"""One text at a time as an encoder reads it: prompt and text between special tokens, cut at the end, or filled up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from rerank.engine.texts.text_tokens import TextIds, TextTokens, unreadable
from rerank.engine.texts.token_store import Ids
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError, InputError

__all__ = ["SingleTexts", "end_texts", "keep_markers_whole", "lower_texts", "single_ids"]

PROBES = ("a text", "Ünïcode, (2023)?")


class SingleTexts:
    """Texts of one kind: queries, or documents.

    Args:
        texts: of the tokenizer.
        prompt: put in front of every text.
        max_tokens: the most tokens of a text, special tokens and prompt included; what is more is cut from its end.
        fill: (token id, tokens, whether it is looked at): shorter texts are filled up with it.

    Raises:
        CheckpointError: when the tokenizer does not put its special tokens around a text.
        InputError: when there is no room for a text.

    Attributes:
        overhead: tokens that are not the text's.
    """

    def __init__(
        self, texts: TextTokens, *, prompt: str, max_tokens: int, fill: tuple[int, int, bool] | None = None
    ) -> None:
        self.texts, self.prompt, self.max_tokens, self.fill = texts, prompt, max_tokens, fill
        self.tokenizer = texts.tokenizer
        self.before, self.after = special_tokens(texts)
        self.prompt_tokens = len(self.before) + (len(texts.encode([prompt])[0]) if prompt else 0)
        self.overhead = self.prompt_tokens + len(self.after)
        if max_tokens <= self.overhead:
            raise InputError(
                f"{max_tokens} tokens leave no room for a text, which has {self.overhead} others around it; allow more"
            )

    def of(self, texts: Sequence[str]) -> list[Pair | InputError]:
        """Each text as the model reads it, or why it cannot: special tokens that it spells out are text."""
        errors = {text: unreadable(text) for text in texts}
        plain = {text: self.texts.special.plain(text) for text, error in errors.items() if error is None}
        found = self.texts.of((self.prompt + each.text for each in plain.values()), template=True)
        return [
            errors[text] or self._made(found[self.prompt + plain[text].text], len(plain[text].breaks)) for text in texts
        ]

    def _made(self, text: TextIds | InputError, defused: int) -> Pair | InputError:
        if isinstance(text, InputError):
            return text
        kept = text.ids[: self.max_tokens - len(self.before) - len(self.after)]
        ids = np.concatenate([self.before, kept, self.after])
        if not len(ids):
            return InputError("a text is empty, and its tokenizer puts nothing around it; give a prompt or an end")
        seen = 0
        if self.fill is not None:
            token, tokens, looked_at = self.fill
            seen = 0 if looked_at else len(ids)  # said of full ones too: all are computed in one way
            ids = np.concatenate([ids, np.full(max(0, tokens - len(ids)), token, np.int32)])
        recalled = len(text.ids) if text.recalled else 0
        cut = len(text.ids) - len(kept)
        return Pair(ids, np.zeros_like(ids), cut, recalled, defused, seen)


def special_tokens(texts: TextTokens) -> tuple[Ids, Ids]:
    """What the tokenizer puts before and after a text.

    Raises:
        CheckpointError: when the text's own tokens are not found between them.
    """
    found = [_around(texts, text) for text in PROBES]
    if any(around is None or not _equal(around, found[0]) for around in found):
        raise CheckpointError(
            f"{type(texts.tokenizer).__name__} changes a text's tokens with what it puts around them; texts cannot be "
            "put together from it"
        )
    assert found[0] is not None
    return found[0]


def _around(texts: TextTokens, text: str) -> tuple[Ids, Ids] | None:
    [alone] = texts.encode([text])
    whole = np.array(texts.tokenizer(text, truncation=False, padding=False, verbose=False)["input_ids"], np.int32)
    for start in range(len(whole) - len(alone) + 1):
        if np.array_equal(whole[start : start + len(alone)], alone):
            return whole[:start], whole[start + len(alone) :]
    return None


def _equal(one: tuple[Ids, Ids], other: tuple[Ids, Ids] | None) -> bool:
    return other is not None and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def single_ids(tokenizer: Any, words: Collection[str]) -> Ids:
    """The ids of those words that are tokens by themselves, as `convert_tokens_to_ids` finds them."""
    unknown = tokenizer.unk_token_id
    ids = [tokenizer.convert_tokens_to_ids(word) for word in words]
    known = [one for one, word in zip(ids, words, strict=True) if one != unknown or word == tokenizer.unk_token]
    return np.array([one for one in known if one is not None], np.int32)


def keep_markers_whole(tokenizer: Any, markers: Sequence[str]) -> None:
    """Have the tokenizer read each marker that it has a token for as that token, and not as text.

    ColBERT puts its markers in as ids; `[unused0]` written in front of a text would fall into pieces. Of "[Q] query:"
    the first word is meant, where the whole is no token.
    """
    from tokenizers import AddedToken

    known = {*tokenizer.get_vocab(), *tokenizer.get_added_vocab()}
    wanted = []
    for marker in filter(str.split, markers):
        name = next((part for part in (marker, marker.split(None, 1)[0]) if part in known), None)
        if name is not None and tokenizer.tokenize(name) != [name]:
            wanted.append(AddedToken(name, normalized=False, special=True))
    if wanted:
        tokenizer.add_tokens(wanted, special_tokens=True)


def end_texts(tokenizer: Any) -> None:
    """Have the tokenizer put its end token behind a text, where it does not yet.

    Raises:
        CheckpointError: when it has none.
    """
    from tokenizers import processors

    end = tokenizer.eos_token
    if end is None:
        raise CheckpointError(f"{type(tokenizer).__name__} has no end token that a text could be read off")
    if tokenizer("a")["input_ids"][-1:] == [tokenizer.eos_token_id]:
        return
    backend = tokenizer.backend_tokenizer
    behind = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)])
    backend.post_processor = processors.Sequence([*filter(None, [backend.post_processor]), behind])


def lower_texts(tokenizer: Any) -> None:
    """Have the tokenizer put texts in lower case first."""
    from tokenizers import normalizers

    backend = tokenizer.backend_tokenizer
    lower: Callable[[], Any] = normalizers.Lowercase
    backend.normalizer = normalizers.Sequence([lower(), *([backend.normalizer] if backend.normalizer else [])])
