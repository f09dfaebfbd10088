"""Text to token ids, each text once; pairs put together from token segments; the document alone is cut.

A pair is `before + query + between + document + after`. Which ids these segments are is found by asking the tokenizer,
and checked on several pairs; a tokenizer whose pairs are not put together that way encodes whole pairs instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rerank.engine.texts.text_tokens import TextIds, TextTokens, unreadable
from rerank.engine.texts.token_store import Ids, TokenStore
from rerank.errors import CheckpointError, InputError

__all__ = ["Pair", "PairTokens"]

PROBES = (("what is it", "a text"), ("Ünïcode, (2023)?", "mixed-Case 東京 text!\n\nnext  line"), ("a", "b"))


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A query and a document, or one text, as the model reads it.

    Args:
        ids, types: [tokens].
        cut: document tokens that did not fit.
        recalled: document tokens that were kept from an earlier call, and not tokenised again.
        defused: special tokens that the texts spelt out, and that were broken up.
        seen: how many tokens, from the first on, attention looks at; those behind them only look. 0: all.
        start: the place of the first token, where a text is a part of a longer one.
    """

    ids: Ids
    types: Ids
    cut: int = 0
    recalled: int = 0
    defused: int = 0
    seen: int = 0
    start: int = 0

    @classmethod
    def of(cls, ids: Sequence[int], types: Sequence[int], cut: int = 0, defused: int = 0) -> Pair:
        """From numbers."""
        return cls(_array(ids), _array(types), cut, defused=defused)


@dataclass(frozen=True, slots=True, eq=False)
class _Template:
    before: Ids
    between: Ids
    after: Ids
    types: Ids  # of before, query, between, document, after

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def equals(self, other: _Template) -> bool:
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in self.__slots__)


class PairTokens:
    """Pairs of texts as one tokenizer writes them.

    Args:
        tokenizer: of transformers; its own padding and truncation settings are not used.
        max_tokens: the most tokens of a pair, special tokens included.
        store: where the ids of texts are kept from call to call; in memory by default.

    Attributes:
        segments: False when pairs must be encoded whole, so that a query is tokenised with every document.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, store: TokenStore | None = None) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.texts = TextTokens(tokenizer, store)
        self._template = self._find_template()
        self.segments = self._template is not None

    def pairs(self, queries: Sequence[str], documents: Sequence[str]) -> list[Pair | InputError]:
        """One pair for each (query, document), or the error that says why there can be none."""
        together = list(zip(queries, documents, strict=True))
        if self._template is None:
            return [unreadable(one) or unreadable(two) or self._whole(one, two) for one, two in together]
        ids = self.texts.of(text for pair in together for text in pair)
        return [self._join(self._template, ids[one], ids[two]) for one, two in together]

    def border(self, query: str) -> int:
        """How many tokens of its pairs come before the document.

        Raises:
            InputError: when this tokenizer's pairs have no such place, or the query cannot be read.
        """
        if self._template is None:
            raise InputError(f"{type(self.tokenizer).__name__} writes pairs whole, and nothing of them stands alone")
        ids = self.texts.of([query])[query]
        if isinstance(ids, InputError):
            raise ids
        return len(self._template.before) + len(ids.ids) + len(self._template.between)

    def _encode_pair(self, query: str, document: str) -> tuple[list[int], list[int]]:
        # as a batch of one: alone, an empty document would be taken for no document
        encoded = self.tokenizer([query], [document], truncation=False, padding=False, verbose=False)
        ids = list(encoded["input_ids"][0])
        return ids, list(encoded.get("token_type_ids", [[0] * len(ids)])[0])

    def _join(
        self, template: _Template, query: TextIds | InputError, document: TextIds | InputError
    ) -> Pair | InputError:
        if isinstance(query, InputError):
            return query
        if isinstance(document, InputError):
            return document
        room = self.max_tokens - template.size - len(query.ids)
        if room < 1:
            return _no_room(len(query.ids), self.max_tokens)
        kept = document.ids[:room]
        parts = (template.before, query.ids, template.between, kept, template.after)
        types = template.types.repeat([len(part) for part in parts])
        recalled = len(document.ids) if document.recalled else 0
        cut, defused = len(document.ids) - len(kept), query.defused + document.defused
        return Pair(np.concatenate(parts), types, cut, recalled, defused)

    def _whole(self, query: str, document: str) -> Pair | InputError:
        plain = self.texts.special.plain(query), self.texts.special.plain(document)
        query, document = (each.text for each in plain)
        defused = sum(len(each.breaks) for each in plain)
        ids, types = self._encode_pair(query, document)
        over = len(ids) - self.max_tokens
        if over <= 0:
            return Pair.of(ids, types, defused=defused)
        try:
            encoded = self.tokenizer(
                [query], [document], truncation="only_second", max_length=self.max_tokens, padding=False, verbose=False
            )
        except Exception:
            return _no_room(len(ids), self.max_tokens)
        cut_ids = list(encoded["input_ids"][0])
        if len(cut_ids) > self.max_tokens:
            return _no_room(len(ids), self.max_tokens)
        return Pair.of(cut_ids, list(encoded.get("token_type_ids", [[0] * len(cut_ids)])[0]), over, defused)

    def _find_template(self) -> _Template | None:
        templates = [self._template_of(query, document) for query, document in PROBES]
        first = templates[0]
        return first if first and all(template and first.equals(template) for template in templates) else None

    def _template_of(self, query: str, document: str) -> _Template | None:
        ids, types = self._encode_pair(query, document)
        if not ids:
            raise CheckpointError(
                "the tokenizer turns text into nothing; is it the one that belongs to this checkpoint?"
            )
        query_ids, document_ids = (text.tolist() for text in self.texts.encode([query, document]))
        start = _find(ids, query_ids, 0)
        second = _find(ids, document_ids, start + len(query_ids)) if start is not None else None
        if start is None or second is None:
            return None
        end = second + len(document_ids)
        middle = start + len(query_ids)
        spans = [(0, start), (start, middle), (middle, second), (second, end), (end, len(ids))]
        kinds = [set(types[low:high]) or {0} for low, high in spans]
        if any(len(kind) != 1 for kind in kinds):
            return None
        before, between, after = ids[:start], ids[middle:second], ids[end:]
        return _Template(*map(_array, (before, between, after, [kind.pop() for kind in kinds])))


def _find(ids: list[int], part: list[int], start: int) -> int | None:
    for index in range(start, len(ids) - len(part) + 1):
        if ids[index : index + len(part)] == part:
            return index
    return None


def _array(numbers: Sequence[int]) -> Ids:
    return np.array(numbers, np.int32)


def _no_room(query_tokens: int, max_tokens: int) -> InputError:
    return InputError(
        f"the query takes {query_tokens} tokens, which leaves no room for a document within max_tokens={max_tokens}; "
        "shorten the query or allow more tokens"
    )
