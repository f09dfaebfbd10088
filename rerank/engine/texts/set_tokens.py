"""The texts of a set as token ids: every document beside the query, both cut to what the model was trained to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rerank.engine.texts.text_tokens import TextIds, TextTokens
from rerank.engine.texts.token_store import Ids, TokenStore
from rerank.engine.tokens import Pair
from rerank.errors import InputError

__all__ = ["SetTexts", "SetTokens"]


@dataclass(frozen=True, slots=True)
class SetTexts:
    """The documents of a question as the model reads them.

    Args:
        texts: one for each document, in the order asked.
        query_cut: tokens of the query that did not fit.
        query_defused: special tokens that the query spelt out, and that were broken up.
    """

    texts: tuple[Pair, ...]
    query_cut: int
    query_defused: int = 0

    def __len__(self) -> int:
        return sum(len(text.ids) for text in self.texts)

    @property
    def amounts(self) -> dict[str, float]:
        """What was cut and what was recalled, for the ledger."""
        cuts = [text.cut for text in self.texts if text.cut]
        amounts = {
            "truncated_queries": int(self.query_cut > 0),
            "truncated_documents": len(cuts),
            "truncated_tokens": sum(cuts) + self.query_cut,
            "tokens_recalled": sum(text.recalled for text in self.texts),
            "special_tokens_defused": self.query_defused + sum(text.defused for text in self.texts),
        }
        return {name: float(amount) for name, amount in amounts.items() if amount}


class SetTokens:
    """`[CLS] [INT] query [SEP] document [SEP]` for every document, or the same without [INT].

    Args:
        tokenizer: of BERT's kind.
        extra: the token behind [CLS], or None.
        query_tokens, document_tokens: the most that is read of each.
        store: where the ids of texts are kept from call to call.
    """

    def __init__(
        self, tokenizer: Any, *, extra: str | None, query_tokens: int, document_tokens: int, store: TokenStore
    ) -> None:
        first = [tokenizer.cls_token, *([extra] if extra else [])]
        self.texts = TextTokens(tokenizer, store)
        self.query_tokens, self.document_tokens = query_tokens, document_tokens
        self._before = np.array(tokenizer.convert_tokens_to_ids(first), np.int32)
        self._end = np.array([tokenizer.sep_token_id], np.int32)

    @property
    def special(self) -> int:
        """Tokens of a text that are neither the query's nor the document's."""
        return len(self._before) + 2 * len(self._end)

    def sets(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[SetTexts | InputError]:
        """One set for each (query, documents), or the error that says why there can be none."""
        ids = self.texts.of(text for query, documents in asked for text in (query, *documents))
        return [self._set(ids[query], [ids[document] for document in documents]) for query, documents in asked]

    def _set(self, query: TextIds | InputError, documents: Sequence[TextIds | InputError]) -> SetTexts | InputError:
        for text in (query, *documents):
            if isinstance(text, InputError):
                return text
        assert isinstance(query, TextIds)
        kept = query.ids[: self.query_tokens]
        before = np.concatenate([self._before, kept, self._end])
        texts = tuple(self._text(before, document) for document in documents if isinstance(document, TextIds))
        return SetTexts(texts, len(query.ids) - len(kept), query.defused)

    def _text(self, before: Ids, document: TextIds) -> Pair:
        kept = document.ids[: self.document_tokens]
        ids = np.concatenate([before, kept, self._end])
        types = np.repeat(np.array([0, 1], np.int32), [len(before), len(ids) - len(before)])
        recalled = len(document.ids) if document.recalled else 0
        return Pair(ids, types, len(document.ids) - len(kept), recalled, document.defused)
