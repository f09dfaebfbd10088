"""Texts cut as a request wants them, by the tokenizer of the model that will read them."""

from __future__ import annotations

from collections.abc import Sequence

from rerank.engine.texts.text_tokens import TextTokens
from rerank.engine.texts.token_store import MemoryTokens
from rerank.engine.tokens import PairTokens
from rerank.errors import InputError
from rerank.prompts.prompt import Blank, Prompt
from rerank.questions import Judge
from rerank.rerankers.long_documents import Windows
from rerank.serve.asked import Asked, Refused
from rerank.types import Document, Query

__all__ = ["bound", "count_tokens", "cut", "reads_instructions", "text_tokens"]


PIECE = 100_000
"""Characters of a text whose tokens are counted at once; a cut between two pieces may make one more."""


def text_tokens(judge: Judge) -> TextTokens | None:
    """How a judge's model writes texts; None where its tokenizer is not here."""
    if isinstance(own := getattr(judge, "text_tokens", None), TextTokens):
        return own
    for holder in (judge, getattr(judge, "tokens", None), getattr(judge, "documents", None)):
        found = getattr(holder, "texts", None)
        if isinstance(found, TextTokens):
            return found
    if isinstance(pairs := getattr(judge, "tokens", None), PairTokens):
        return pairs.texts
    tokenizer = getattr(judge, "tokenizer", None)
    return None if tokenizer is None else TextTokens(tokenizer)


def bound(tokens: TextTokens, most: int) -> None:
    """Keep the ids of texts with no more than so many tokens; a folder that they are kept in has its own bound."""
    if isinstance(tokens.store, MemoryTokens):
        tokens.store.max_tokens = most


def reads_instructions(judge: Judge) -> bool:
    """Whether an instruction changes what a judge is asked: its prompt has a place for it, or its wording has."""
    prompt = getattr(judge, "prompt", None)
    if not isinstance(prompt, Prompt):
        return False
    shown = 1 if prompt.asks == "grade" else 2
    parts = [part for _, said in prompt.render(shown) for part in said]
    if any(isinstance(part, Blank) and part.name == "instruction" for part in parts):
        return True
    return "{instruction}" in prompt.wording_of(getattr(judge, "wording", None))


def count_tokens(tokens: TextTokens | None, asked: Asked, most: int) -> int:
    """Tokens of a request; its bytes, where the tokenizer is not here.

    Counting ends when there are more than `most`: words are counted first, of which each has a token at least, for a
    tokenizer takes seconds for what white space tells at once.
    """
    if tokens is None:
        return asked.size
    texts = [asked.query, *asked.texts]
    count = sum(len(text.split()) for text in texts)
    if count > most:
        return count
    count = 0
    for text in texts:
        for begin in range(0, len(text), PIECE):
            count += len(tokens.encode([text[begin : begin + PIECE]])[0])
            if count > most:
                return count
    return count


def cut(
    judge: Judge, tokens: TextTokens | None, asked: Asked, query: Query, documents: Sequence[Document]
) -> tuple[Query, list[Document]]:
    """The query and the documents as the model shall read them.

    Args:
        judge: who reads them.
        tokens: how its model writes texts, as `text_tokens` says.
        asked: how they are to be cut.
        query, documents: whole.

    Raises:
        InputError: when the model's tokenizer cannot say where its tokens stand.
        Refused: 413 for a document that is too long, where nothing may be cut.
    """
    if asked.max_tokens_per_query is not None:
        query = Query(query.query_id, _beginning(tokens, query.text, asked.max_tokens_per_query), query.instruction)
    found = list(documents)
    if (most := asked.max_tokens_per_doc) is not None:
        found = [Document(document.doc_id, _beginning(tokens, document.text, most)) for document in found]
    if asked.keep_end:
        return query, [_ending(_windows(judge, "truncation_direction"), query, document) for document in found]
    if not asked.truncate:
        _check_whole(_windows(judge, "truncate"), query, found)
    return query, found


def _beginning(known: TextTokens | None, text: str, tokens: int) -> str:
    if known is None:
        raise InputError("the model's tokenizer is not here, so texts cannot be cut by tokens; leave it out")
    return known.beginning(text, tokens) or text[:1]


def _check_whole(judge: Windows, query: Query, documents: Sequence[Document]) -> None:
    for index, document in enumerate(documents):
        if len(judge.windows(query, document)) > 1:
            raise Refused(413, f"document {index} is longer than the model reads beside this query; truncate it")


def _ending(judge: Windows, query: Query, document: Document) -> Document:
    """The document's end, as much as the model reads beside the query."""
    if len(judge.windows(query, document)) == 1:
        return document
    low, high = 0, len(document.text)  # the text from `high` on fits, that from `low` on does not
    while high - low > 1:
        middle = (low + high) // 2
        if len(judge.windows(query, Document(document.doc_id, document.text[middle:]))) == 1:
            high = middle
        else:
            low = middle
    return Document(document.doc_id, document.text[high:])


def _windows(judge: Judge, name: str) -> Windows:
    if not isinstance(judge, Windows):
        raise InputError(f"{type(judge).__name__} cannot tell what it reads of one document; leave {name} out")
    return judge
