"""Text to token ids, each text once; pairs put together from token segments; the document alone is cut.

A pair is `before + query + between + document + after`. Which ids these segments are is found by asking the tokenizer,
and checked on several pairs; a tokenizer whose pairs are not put together that way encodes whole pairs instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank.errors import CheckpointError, InputError

__all__ = ["Ids", "Pair", "PairTokens"]

SURROGATE = re.compile("[\ud800-\udfff]")
PROBES = (("what is it", "a text"), ("Ünïcode, (2023)?", "mixed-Case 東京 text!\n\nnext  line"), ("a", "b"))


Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A query and a document as the model reads them: `ids` and `types`, [tokens]; document tokens that were cut."""

    ids: Ids
    types: Ids
    cut: int

    @classmethod
    def of(cls, ids: Sequence[int], types: Sequence[int], cut: int = 0) -> Pair:
        """From numbers."""
        return cls(np.array(ids, np.int32), np.array(types, np.int32), cut)


@dataclass(frozen=True, slots=True)
class _Template:
    before: list[int]
    between: list[int]
    after: list[int]
    types: tuple[int, int, int, int, int]  # of before, query, between, document, after

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


class PairTokens:
    """Pairs of texts as one tokenizer writes them.

    Args:
        tokenizer: of transformers; its own padding and truncation settings are not used.
        max_tokens: the most tokens of a pair, special tokens included.

    Attributes:
        segments: False when pairs must be encoded whole, so that a query is tokenised with every document.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        if self._backend is not None:
            self._backend.no_padding()
            self._backend.no_truncation()
        self._template = self._find_template()
        self.segments = self._template is not None

    def pairs(self, queries: Sequence[str], documents: Sequence[str]) -> list[Pair | InputError]:
        """One pair for each (query, document), or the error that says why there can be none."""
        together = list(zip(queries, documents, strict=True))
        broken = {text: _no_text(found.group()) for text in {*queries, *documents} if (found := SURROGATE.search(text))}
        if self._template is None:
            return [broken.get(one) or broken.get(two) or self._whole(one, two) for one, two in together]
        ids = self._ids_of([text for pair in together for text in pair if text not in broken])
        return [
            broken.get(one) or broken.get(two) or self._join(self._template, ids[one], ids[two])
            for one, two in together
        ]

    def _ids_of(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """The ids of every distinct text, without special tokens."""
        distinct = list(dict.fromkeys(texts))
        return dict(zip(distinct, self._encode(distinct), strict=True))

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if self._backend is not None:
            return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)]
        encoded = self.tokenizer(texts, add_special_tokens=False, truncation=False, padding=False, verbose=False)
        return list(encoded["input_ids"])

    def _encode_pair(self, query: str, document: str) -> tuple[list[int], list[int]]:
        # as a batch of one: alone, an empty document would be taken for no document
        encoded = self.tokenizer([query], [document], truncation=False, padding=False, verbose=False)
        ids = list(encoded["input_ids"][0])
        return ids, list(encoded.get("token_type_ids", [[0] * len(ids)])[0])

    def _join(self, template: _Template, query: list[int], document: list[int]) -> Pair | InputError:
        room = self.max_tokens - template.size - len(query)
        if room < 1:
            return _no_room(len(query), self.max_tokens)
        kept = document[:room]
        parts = (template.before, query, template.between, kept, template.after)
        ids = np.concatenate(parts, dtype=np.int32, casting="unsafe")  # an empty list is a list of floats
        types = np.repeat(np.array(template.types, np.int32), [len(part) for part in parts])
        return Pair(ids, types, cut=len(document) - len(kept))

    def _whole(self, query: str, document: str) -> Pair | InputError:
        ids, types = self._encode_pair(query, document)
        over = len(ids) - self.max_tokens
        if over <= 0:
            return Pair.of(ids, types)
        try:
            encoded = self.tokenizer(
                [query], [document], truncation="only_second", max_length=self.max_tokens, padding=False, verbose=False
            )
        except Exception:
            return _no_room(len(ids), self.max_tokens)
        cut_ids = list(encoded["input_ids"][0])
        if len(cut_ids) > self.max_tokens:
            return _no_room(len(ids), self.max_tokens)
        return Pair.of(cut_ids, list(encoded.get("token_type_ids", [[0] * len(cut_ids)])[0]), over)

    def _find_template(self) -> _Template | None:
        templates = [self._template_of(query, document) for query, document in PROBES]
        first = templates[0]
        return first if all(template == first for template in templates) else None

    def _template_of(self, query: str, document: str) -> _Template | None:
        ids, types = self._encode_pair(query, document)
        if not ids:
            raise CheckpointError(
                "the tokenizer turns text into nothing; is it the one that belongs to this checkpoint?"
            )
        query_ids, document_ids = self._encode([query, document])
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
        return _Template(before, between, after, tuple(kind.pop() for kind in kinds))  # type: ignore[arg-type]


def _find(ids: list[int], part: list[int], start: int) -> int | None:
    for index in range(start, len(ids) - len(part) + 1):
        if ids[index : index + len(part)] == part:
            return index
    return None


def _no_text(surrogate: str) -> InputError:
    return InputError(f"the text holds {surrogate!r}, half a character that no tokenizer reads; remove it")


def _no_room(query_tokens: int, max_tokens: int) -> InputError:
    return InputError(
        f"the query takes {query_tokens} tokens, which leaves no room for a document within max_tokens={max_tokens}; "
        "shorten the query or allow more tokens"
    )
