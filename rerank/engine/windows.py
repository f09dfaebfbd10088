"""A long document as pieces that fit beside a query, measured in tokens of the tokenizer that will read them."""

from __future__ import annotations

from collections.abc import Callable

from rerank.engine.texts.text_tokens import TextTokens, unreadable
from rerank.engine.tokens import Pair, PairTokens
from rerank.errors import InputError
from rerank.types import Document, Query

__all__ = ["document_windows", "spans", "windows_within"]


def document_windows(
    pairs: PairTokens, query: Query, document: Document, *, window: int | None = None, stride: int | None = None
) -> list[Document]:
    """The document in pieces that fit beside the query in a pair.

    Args:
        pairs: the tokenizer, and the most tokens of query and document together.
        query: what stands beside each piece.
        document, window, stride: as of `windows_within`.

    Raises:
        InputError: when the query leaves no room, a number is below 1, or the stride would skip words.
    """
    return windows_within(pairs.texts, document, _room(pairs, query.text), window=window, stride=stride)


def windows_within(
    texts: TextTokens,
    document: Document,
    room: int,
    *,
    window: int | None = None,
    stride: int | None = None,
    over: Callable[[Document], int] = lambda piece: 0,
) -> list[Document]:
    """The document in pieces, from its beginning to its end; itself alone when it is no longer than a window.

    Each piece is a document of its own, `doc_id#1`, `doc_id#2` … Its title stands in front of every piece where it
    takes no more than half a window, and before the first words alone where it is longer. Pieces begin and end between
    words, where words are shorter than half a window, so that most are a little shorter than they might be.

    Args:
        texts: of the tokenizer that will read the pieces.
        document: any length.
        room: the most tokens of a piece, title included.
        window: fewer, if that is wanted.
        stride: tokens from the beginning of a piece to the next one's; the whole window by default, so that pieces do
            not overlap.
        over: by how much a piece is too long where it will be read, for whatever other reason there is; 0 or less when
            it fits.

    Raises:
        InputError: when a number is below 1, the stride would skip words, or the tokenizer has no offsets.
    """
    most = _window(window, room)
    stride = _stride(stride, window, most)

    def length(piece: str) -> int:
        return len(texts.encode([texts.special.plain(piece).text])[0])

    def spare(piece: Document) -> int:
        return min(most - length(piece.full_text), -over(piece))

    if unreadable(document.full_text) or spare(document) >= 0:  # what nobody can read, its question says why
        return [document]
    title = document.title if document.title and 2 * length(f"{document.title} ") <= most else ""
    text = document.text if title or not document.title else document.full_text
    left = most - (length(f"{title} ") if title else 0)
    ends = spans(text, _offsets(texts, text), left, min(stride, left), lambda piece: spare(Document("", piece, title)))
    return [
        Document(f"{document.doc_id}#{number}", text[start:stop], title)
        for number, (start, stop) in enumerate(ends, start=1)
    ]


def spans(
    text: str, offsets: list[tuple[int, int]], window: int, stride: int, spare: Callable[[str], int]
) -> list[tuple[int, int]]:
    """Where pieces begin and end in a text, in characters; no token is left out.

    Args:
        text: what is cut.
        offsets: where each token stands in it.
        window: the most tokens of a piece.
        stride: tokens from one beginning to the next, from 1 to `window`.
        spare: how many tokens more a piece could have, by itself; negative when it has too many.
    """
    found: list[tuple[int, int]] = []
    start = 0
    while True:
        stop = min(start + window, len(offsets))
        if stop < len(offsets):
            stop = _between_words(text, offsets, stop, start + window // 2)
        begin = offsets[start][0]
        while stop > start + 1 and (left := spare(text[begin : offsets[stop - 1][1]])) < 0:
            # alone, a piece may have more tokens than it had in its text
            stop = _between_words(text, offsets, max(start + 1, stop + left), start + window // 2)
        found.append((begin, offsets[stop - 1][1]))
        if stop == len(offsets):
            return found
        start = _between_words(text, offsets, min(start + stride, stop), start)


def _between_words(text: str, offsets: list[tuple[int, int]], index: int, least: int) -> int:
    """The nearest token at or before `index` that begins a word, if it comes after `least`; else `index` itself."""
    for place in range(index, least, -1):
        start = offsets[place][0]
        if start == 0 or text[start - 1].isspace() or text[start : start + 1].isspace():
            return place
    return index


def _room(pairs: PairTokens, query: str) -> int:
    [pair] = pairs.pairs([query], ["a"])
    if not isinstance(pair, Pair):
        raise pair
    return pairs.max_tokens - (len(pair.ids) - len(pairs.texts.encode(["a"])[0]))


def _window(asked: int | None, room: int) -> int:
    if asked is not None and asked < 1:
        raise InputError(f"a window of {asked} tokens holds nothing; give at least 1")
    return room if asked is None else min(asked, room)


def _stride(asked: int | None, window: int | None, room: int) -> int:
    if asked is not None and (asked < 1 or (window is not None and asked > window)):
        raise InputError(
            f"a stride of {asked} tokens over windows of {window or 'all that fits'} would skip words, or never end; "
            f"choose 1 to {window or room}"
        )
    return room if asked is None else min(asked, room)


def _offsets(texts: TextTokens, text: str) -> list[tuple[int, int]]:
    found = texts.offsets(text)
    if found is None:
        raise InputError(
            f"{type(texts.tokenizer).__name__} does not say where its tokens stand in a text, so documents cannot be "
            "cut into windows; use long_documents='truncate'"
        )
    return found
