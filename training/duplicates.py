"""Documents that a list shows twice, so that a set-encoder learns to see what it has seen before."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

from rerank.errors import InputError
from training.examples import Example

__all__ = ["Copied", "Duplicates", "groups_of"]


@dataclass(frozen=True, slots=True)
class Copied(Example):
    """An example as it is shown: its own documents, and copies of some of them behind.

    Labels are of its own documents. Not written to disk: copies are drawn while training.

    Args:
        copies: (which document, its text as it is shown again).
        groups: for each text shown, its own documents first, a number that duplicates share.
    """

    copies: tuple[tuple[int, str], ...] = ()
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Duplicates:
    """Where duplicates come from (Set-Encoder, https://arxiv.org/abs/2404.06912).

    Args:
        copies: documents of each list of which a copy is shown too, drawn anew in every epoch.
        changed: the share of a copy's words that are left out, at least one where it is above 0; 0 copies as it is.
        similar: documents of a list are duplicates, too, when so much of their words is common to both (Jaccard); None:
            copies alone are.

    Raises:
        InputError: when a number is out of range, or nothing is a duplicate.
    """

    copies: int = 1
    changed: float = 0.0
    similar: float | None = None

    def __post_init__(self) -> None:
        if self.copies < 0 or not (self.copies or self.similar):
            raise InputError(
                f"copies={self.copies} and similar={self.similar}: nothing is a duplicate; copy at least 1"
            )
        if self.changed and not self.copies:
            raise InputError(f"changed={self.changed} is of copies, and copies=0; leave it out, or copy at least 1")
        if not 0 <= self.changed < 1:
            raise InputError(f"changed={self.changed}; the share of words left out is from 0 to below 1")
        if self.similar is not None and not 0 < self.similar <= 1:
            raise InputError(f"similar={self.similar}; the share of common words is above 0 and at most 1")

    def drawn(self, example: Example, choice: random.Random) -> Copied:
        """The example with copies of its documents; of fewer where it has fewer that can be copied.

        Args:
            example: a list.
            choice: draws which, and the words that are left out.
        """
        able = [place for place, text in enumerate(example.documents) if not self.changed or len(text.split()) > 1]
        chosen = sorted(choice.sample(able, min(self.copies, len(able))))
        copies = tuple((place, self._copy(example.documents[place], choice)) for place in chosen)
        groups = groups_of(example.documents, self.similar)
        known: dict[str, Any] = {one.name: getattr(example, one.name) for one in fields(Example)}
        return Copied(**known, copies=copies, groups=(*groups, *(groups[place] for place in chosen)))

    def _copy(self, text: str, choice: random.Random) -> str:
        if not self.changed:
            return text
        words = text.split()
        left_out = min(max(1, round(self.changed * len(words))), len(words) - 1)
        gone = set(choice.sample(range(len(words)), left_out))
        return " ".join(word for place, word in enumerate(words) if place not in gone)


def groups_of(documents: Sequence[str], similar: float | None = None) -> tuple[int, ...]:
    """A number for each document, which those share that are alike, or alike to one that is: the first one's place.

    Args:
        documents: texts.
        similar: the least share of common words, lower-cased, among all words of two texts; None: all are different.
    """
    groups = list(range(len(documents)))
    if similar is None:
        return tuple(groups)
    words = [set(text.lower().split()) for text in documents]
    for one, two in combinations(range(len(documents)), 2):
        if len(words[one] & words[two]) >= similar * len(words[one] | words[two]):
            first, second = sorted((groups[one], groups[two]))
            groups = [first if group == second else group for group in groups]
    return tuple(groups)
