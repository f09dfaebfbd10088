"""Documents in pieces that are retrieved and shown by themselves: whole sentences, with an overlap."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from rerank.datasets import Dataset, Source
from rerank.errors import InputError
from rerank.types import Document, Qrels, Query

__all__ = ["Count", "chunked", "count_words", "in_chunks", "whole_id"]

Count: TypeAlias = Callable[[str], int]
"""How many tokens a text has. One with a `name` is known by it where an index is looked for."""

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n{2,}")


def count_words(text: str) -> int:
    """Words between white space: where no tokenizer is at hand."""
    return len(text.split())


def chunked(
    documents: Iterable[Document], *, tokens: int = 128, overlap: int = 0, count: Count = count_words
) -> Iterator[Document]:
    """Documents in chunks of whole sentences; "d" becomes "d#1", "d#2" …, each with the title of the whole.

    Args:
        documents: any number; they are read one at a time.
        tokens: the most tokens of a chunk. A sentence that is longer is divided between words; a word that is longer by
            itself is a chunk, and stays whole.
        overlap: tokens of sentences at the end of a chunk that the next one begins with, at most.
        count: tokens of a text; words by default.

    Raises:
        InputError: when a chunk could hold nothing, or nothing new.
    """
    if tokens < 1 or not 0 <= overlap < tokens:
        raise InputError(f"chunks of {tokens} tokens with {overlap} in common say nothing new; choose overlap < tokens")
    for document in documents:
        for number, text in enumerate(_texts(document.text, tokens, overlap, count), start=1):
            yield Document(f"{document.doc_id}#{number}", text, document.title)


def whole_id(doc_id: str) -> str:
    """The id of the document that a chunk comes from."""
    return doc_id.rpartition("#")[0] or doc_id


def in_chunks(dataset: Dataset, *, tokens: int = 128, overlap: int = 0, count: Count = count_words) -> Dataset:
    """A dataset whose documents are chunks, for every retriever that indexes datasets.

    Its queries are the same. It has no judgments: those are about whole documents (`whole_id`).

    Args:
        dataset: of whole documents.
        tokens, overlap, count: as of `chunked`.
    """
    next(chunked([], tokens=tokens, overlap=overlap), None)  # refuses now what would be refused while indexing
    return Dataset(f"{dataset.name} in chunks", _Chunks(dataset.source, tokens, overlap, count))


@dataclass(frozen=True)
class _Chunks:
    source: Source
    tokens: int
    overlap: int
    count: Count

    def documents(self) -> Iterator[Document]:
        return chunked(self.source.documents(), tokens=self.tokens, overlap=self.overlap, count=self.count)

    def corpus_key(self) -> str:
        named = getattr(self.count, "name", None) or getattr(self.count, "__qualname__", repr(self.count))
        counted = f"{type(self.count).__module__}.{named}"
        return f"{self.source.corpus_key()} in chunks of {self.tokens} by {self.overlap}, {counted}"

    def find(self, doc_ids: Collection[str]) -> dict[str, Document]:
        wholes = self.source.find({whole_id(doc_id) for doc_id in doc_ids}).values()
        chunks = chunked(wholes, tokens=self.tokens, overlap=self.overlap, count=self.count)
        return {chunk.doc_id: chunk for chunk in chunks if chunk.doc_id in doc_ids}

    def queries(self) -> list[Query]:
        return self.source.queries()

    def qrels(self) -> Qrels:
        return {}


def _texts(text: str, tokens: int, overlap: int, count: Count) -> list[str]:
    """Sentences, put together as long as they fit."""
    found: list[str] = []
    held: list[str] = []
    for piece in _pieces(text, tokens, count):
        if held and count(" ".join([*held, piece])) > tokens:
            found.append(" ".join(held))
            held = _tail(held, overlap, count)
            while held and count(" ".join([*held, piece])) > tokens:
                held = held[1:]
        held.append(piece)
    return [*found, " ".join(held)] if held else [""]


def _pieces(text: str, tokens: int, count: Count) -> Iterator[str]:
    """Sentences, and parts of those that are longer than a chunk."""
    for sentence in _SENTENCE.split(text):
        words = sentence.split()
        while words and count(" ".join(words)) > tokens:
            size = _fitting(words, tokens, count)
            yield " ".join(words[:size])
            words = words[size:]
        if words:
            yield " ".join(words)


def _fitting(words: list[str], tokens: int, count: Count) -> int:
    """How many words fit, one at least: by halves."""
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(" ".join(words[:middle])) <= tokens else (low, middle - 1)
    return low


def _tail(held: list[str], overlap: int, count: Count) -> list[str]:
    kept: list[str] = []
    for piece in reversed(held):
        if count(" ".join([piece, *kept])) > overlap:
            break
        kept.insert(0, piece)
    return kept
