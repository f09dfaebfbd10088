"""Documents as rows of term numbers: what BM25 is computed from while an index is built."""

from __future__ import annotations

from array import array

from retrievers.analysis import Analyser, words

__all__ = ["Terms"]

STOP_WORD = -1


class Terms:
    """The documents as rows of term numbers, and the numbers of the terms."""

    def __init__(self, analyser: Analyser) -> None:
        self.rows: list[array[int]] = []
        self._numbers = _Numbers(analyser)

    @property
    def vocabulary(self) -> dict[str, int]:
        """term -> number."""
        return self._numbers.vocabulary

    def add(self, text: str) -> None:
        """Append a document."""
        numbers = map(self._numbers.__getitem__, words(text))
        self.rows.append(array("i", [number for number in numbers if number != STOP_WORD]))


class _Numbers(dict[str, int]):
    """word -> number of its term. Analyses a word when it is first seen: most words were seen before."""

    def __init__(self, analyser: Analyser) -> None:
        self.vocabulary: dict[str, int] = {}
        self._analyser = analyser

    def __missing__(self, word: str) -> int:
        term = self._analyser.term(word)
        number = STOP_WORD if term is None else self.vocabulary.setdefault(term, len(self.vocabulary))
        self[word] = number
        return number
