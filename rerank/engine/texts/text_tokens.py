"""Texts to token ids, each text once: what every prompt and pair is put together from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rerank.engine.texts.disk_tokens import DiskTokens
from rerank.engine.texts.special import Plain, SpecialTokens
from rerank.engine.texts.token_store import Ids, MemoryTokens, TokenStore
from rerank.errors import InputError

__all__ = ["TextIds", "TextTokens", "fingerprint", "special_tokens", "store_for", "unreadable"]


@dataclass(frozen=True, slots=True)
class TextIds:
    """The ids of one text, without special tokens.

    Args:
        ids: [tokens].
        recalled: they were kept from an earlier call.
        defused: how many special tokens the text spelt out, which were broken up.
    """

    ids: Ids
    recalled: bool
    defused: int = 0


class TextTokens:
    """Texts as one tokenizer writes them.

    Args:
        tokenizer: of transformers; its own padding and truncation settings are not used.
        store: where ids are kept from call to call; in memory by default.
    """

    def __init__(self, tokenizer: Any, store: TokenStore | None = None) -> None:
        self.tokenizer = tokenizer
        self.store: TokenStore = MemoryTokens() if store is None else store
        self.backend = backend_of(tokenizer)
        self.special = SpecialTokens(tokenizer, self.backend)

    def of(self, texts: Iterable[str], *, after: str = "", template: bool = False) -> dict[str, TextIds | InputError]:
        """The ids of every distinct text, or the error that says why there are none.

        Args:
            texts: any number of them; each is tokenised once.
            after: a text that they are read behind: where a tokenizer marks the beginning of a text, these are none.
            template: they are parts of prompts, whose special tokens are meant; those of other texts are broken up.
        """
        found: dict[str, TextIds | InputError] = {}
        plain: dict[str, Plain] = {}
        for text in dict.fromkeys(texts):
            error = unreadable(text)
            if error is not None:
                found[text] = error
            else:
                plain[text] = Plain(text) if template else self.special.plain(text)
        ids = self._ids(list(dict.fromkeys(each.text for each in plain.values())), after)
        for text, each in plain.items():
            of_text, recalled = ids[each.text]
            found[text] = TextIds(of_text, recalled, len(each.breaks))
        return found

    def _ids(self, texts: list[str], after: str) -> dict[str, tuple[Ids, bool]]:
        """The ids of each text as it stands, and whether they were kept."""
        keys = {text: _key(text, after) for text in texts}
        kept = dict(zip(texts, self.store.recall(list(keys.values())), strict=True))
        missing = [text for text, ids in kept.items() if ids is None]
        fresh = dict(zip(missing, self.encode(missing, after=after), strict=True)) if missing else {}
        if fresh:
            self.store.keep({keys[text]: ids for text, ids in fresh.items()})
        return {text: (fresh[text], False) if ids is None else (ids, True) for text, ids in kept.items()}

    def encode(self, texts: list[str], *, after: str = "") -> list[Ids]:
        """The ids of each text as it stands, none added; nothing is kept."""
        if not after:
            return self._encode(texts)
        [before] = self._encode([after])
        return [ids[len(before) :] for ids in self._encode([after + text for text in texts])]

    def offsets(self, text: str) -> list[tuple[int, int]] | None:
        """Where each token of a text stands in it, special tokens broken up; None when the tokenizer does not say."""
        if self.backend is None:
            return None
        plain = self.special.plain(text)
        found = self.backend.encode(plain.text, add_special_tokens=False).offsets
        return [(plain.origin(start), plain.origin(end)) for start, end in found] if plain.breaks else list(found)

    def beginning(self, text: str, tokens: int) -> str:
        """As much of a text as has no more than so many tokens, cut between characters."""
        if self.backend is None:
            return self._bisected(text, tokens)
        offsets = self.backend.encode(text, add_special_tokens=False).offsets
        if len(offsets) <= tokens:
            return text
        end = min(offsets[tokens - 1][1], offsets[tokens][0]) if tokens else 0  # tokens may be parts of a character
        return text[:end]

    def _bisected(self, text: str, tokens: int) -> str:
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if len(self._encode([text[:middle]])[0]) <= tokens:
                low = middle
            else:
                high = middle - 1
        return text[:low]

    def _encode(self, texts: list[str]) -> list[Ids]:
        if self.backend is not None:
            encoded = (encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False))
        else:
            batch = self.tokenizer(texts, add_special_tokens=False, truncation=False, padding=False, verbose=False)
            encoded = iter(batch["input_ids"])
        return [np.array(ids, np.int32) for ids in encoded]


def backend_of(tokenizer: Any) -> Any:
    """The tokenizer's fast half, which pads and cuts nothing from now on; None when it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_padding()
        backend.no_truncation()
    return backend


@lru_cache(maxsize=16)
def special_tokens(tokenizer: Any) -> SpecialTokens:
    """What a tokenizer takes for special tokens."""
    return SpecialTokens(tokenizer, backend_of(tokenizer))


def fingerprint(tokenizer: Any) -> str:
    """A hash that changes when the same text may get other ids."""
    backend = backend_of(tokenizer)
    if backend is not None:
        written = backend.to_str()
    else:
        options = {name: str(value) for name, value in getattr(tokenizer, "init_kwargs", {}).items()}
        options.pop("name_or_path", None)
        written = json.dumps([type(tokenizer).__name__, tokenizer.get_vocab(), options], sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()


def _key(text: str, after: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16, key=after.encode()[:64]).digest()


def store_for(tokenizer: Any, folder: str | Path | None) -> TokenStore:
    """Where this tokenizer's ids are kept: in a folder, or in memory.

    Raises:
        InputError: when the folder cannot be used, or belongs to another tokenizer.
    """
    return MemoryTokens() if folder is None else DiskTokens(folder, fingerprint(tokenizer))


def unreadable(text: str) -> InputError | None:
    """Why no tokenizer reads this text; None when it is one."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return _half(text[error.start])
    return None


def _half(surrogate: str) -> InputError:
    return InputError(f"the text holds {surrogate!r}, half a character that no tokenizer reads; remove it")
