"""A query and two documents in one sequence, as duoBERT reads them: `[CLS] query [SEP] first [SEP] second [SEP]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rerank.engine.texts.shares import shares
from rerank.engine.texts.text_tokens import TextIds, TextTokens
from rerank.engine.texts.token_store import Ids, TokenStore
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError, InputError

__all__ = ["TripleTokens"]


class TripleTokens:
    """Triples of texts. The documents share the room that the query leaves: what a short one does not need goes to the
    other.

    Args:
        tokenizer: with a token for the beginning and one that separates.
        max_tokens: the most tokens of a triple, special tokens included.
        types: how many token types the model knows: with three each text has its own, with two the documents share one.
        store: where the ids of texts are kept from call to call; in memory by default.

    Raises:
        CheckpointError: when the tokenizer has no such tokens.
    """

    segments = True

    def __init__(self, tokenizer: Any, max_tokens: int, *, types: int, store: TokenStore | None = None) -> None:
        if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
            raise CheckpointError(
                "the tokenizer has no [CLS] or no [SEP], which stand around a query and two documents"
            )
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.texts = TextTokens(tokenizer, store)
        self.types = (0, 1, 2) if types > 2 else (0, 1, 1)

    def triples(self, asked: Sequence[tuple[str, str, str]]) -> list[Pair | InputError]:
        """One for each (query, first document, second document), or the error that says why there can be none."""
        ids = self.texts.of(text for triple in asked for text in triple)
        return [self._joined([ids[text] for text in triple]) for triple in asked]

    def _joined(self, texts: Sequence[TextIds | InputError]) -> Pair | InputError:
        read = [text for text in texts if isinstance(text, TextIds)]
        for text in texts:
            if isinstance(text, InputError):
                return text
        query, *documents = (text.ids for text in read)
        room = self.max_tokens - 4 - len(query)
        if room < 2:
            return InputError(
                f"the query takes {len(query)} tokens, which leaves no room for two documents within max_tokens="
                f"{self.max_tokens}; shorten the query or allow more tokens"
            )
        lengths = [len(document) for document in documents]
        kept = [document[:most] for document, most in zip(documents, shares(lengths, room), strict=True)]
        cut = sum(lengths) - sum(map(len, kept))
        recalled = sum(len(text.ids) for text in read[1:] if text.recalled)
        return replace(self._pair(query, kept, cut, recalled), defused=sum(text.defused for text in read))

    def _pair(self, query: Ids, documents: Sequence[Ids], cut: int, recalled: int) -> Pair:
        begin, end = (
            np.array([token], np.int32) for token in (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id)
        )
        parts = [np.concatenate([begin, query, end]), *(np.concatenate([document, end]) for document in documents)]
        types = np.repeat(np.array(self.types, np.int32), [len(part) for part in parts])
        return Pair(np.concatenate(parts), types, cut, recalled)
