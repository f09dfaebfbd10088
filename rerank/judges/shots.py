"""Few-shot prompts: which demonstrations a query is shown, and how."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from rerank.errors import InputError
from rerank.prompts import demonstrations as files
from rerank.prompts.demonstrations import Demonstration
from rerank.prompts.prompt import Prompt
from rerank.registry import unknown

__all__ = ["CHOICES", "Asking", "Shots", "Source"]

CHOICES = ("similar", "first", "random", "hard")

WORD = re.compile(r"\w+")

Source: TypeAlias = str | Path | Sequence[Demonstration]
"""A JSONL file of demonstrations, or demonstrations."""

Likelihoods: TypeAlias = Callable[[Sequence[Demonstration]], list[float]]
"""How likely the model finds each demonstration's query behind its better document."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What a user says about demonstrations.

    Args:
        source: a JSONL file, or demonstrations; None: none are shown.
        shots: how many a query is shown.
        choose: "similar" by BM25 between queries, the most similar last, next to the question; "first" as the file has
            them; "random" drawn once for all queries; "hard" those whose query the model finds least likely behind
            their better document (PaRaDe; Drozdov et al., 2023, https://arxiv.org/abs/2310.14408).
        mirrored: show each comparison in both orders.
        seed: of "random".
    """

    source: Source | None = None
    shots: int = 1
    choose: str = "similar"
    mirrored: bool = False
    seed: int = 0


class Shots:
    """The demonstrations of one judge.

    Args:
        prompt: that shows them.
        asking: which.
        likelihoods: asked once, where hard ones are chosen.

    Raises:
        UnknownName, FileError, InputError: when there is no such choice, no such file, or too few demonstrations.
    """

    def __init__(self, prompt: Prompt, asking: Asking, likelihoods: Likelihoods) -> None:
        source = asking.source
        assert source is not None
        if asking.choose not in CHOICES:
            raise unknown("choice of demonstrations", asking.choose, CHOICES)
        self.prompt, self.asking = prompt, asking
        known = files.read(source) if isinstance(source, str | Path) else tuple(source)
        if not 1 <= asking.shots <= len(known):
            raise InputError(f"shots={asking.shots}, and there are {len(known)} demonstrations; show 1 to {len(known)}")
        if asking.mirrored and prompt.asks != "compare":
            raise InputError(f"mirrored=True, but prompt {prompt.name!r} asks to {prompt.asks}; comparisons have sides")
        self.demonstrations = known
        files.rendered(prompt, known[:2] if prompt.asks == "grade" else known)  # what lacks a document is told now
        self._fixed = self._chosen_once(likelihoods)
        self._index = _Index([each.query for each in known]) if asking.choose == "similar" else None
        self.text = lru_cache(maxsize=4096)(self._text)

    @property
    def description(self) -> str:
        """All that decides what is shown, for a judge's key and the ledger."""
        asking = self.asking
        drawn = f", seed {asking.seed}" if asking.choose == "random" else ""
        sides = ", mirrored" if asking.mirrored else ""
        return f"{asking.shots} {asking.choose} of {files.fingerprint(self.demonstrations)}{drawn}{sides}"

    def chosen(self, query: str) -> tuple[Demonstration, ...]:
        """The demonstrations that a query is shown, in their order; never one of the same query, which would give the
        answer away."""
        if self._index is None:
            kept = [each for each in self._fixed if each.query.strip() != query.strip()]
            return tuple(kept[: self.asking.shots])
        order = [
            index for index in self._index.nearest(query) if self.demonstrations[index].query.strip() != query.strip()
        ]
        return tuple(self.demonstrations[index] for index in reversed(order[: self.asking.shots]))

    def _text(self, query: str) -> str:
        return files.rendered(self.prompt, self.chosen(query), mirrored=self.asking.mirrored)

    def _chosen_once(self, likelihoods: Likelihoods) -> tuple[Demonstration, ...]:
        """All demonstrations, those first that every query is shown."""
        known = self.demonstrations
        if self.asking.choose == "random":
            return tuple(random.Random(self.asking.seed).sample(known, len(known)))
        if self.asking.choose == "hard":
            found = likelihoods(known)
            return tuple(known[index] for index in sorted(range(len(known)), key=found.__getitem__))
        return known


class _Index:
    """Queries, ordered by how similar they are to another one: BM25 with Anserini's k1 and b, words as they are."""

    def __init__(self, queries: Sequence[str]) -> None:
        import bm25s

        self._count = len(queries)
        words = [_words(query) for query in queries]
        self._known = {word for query in words for word in query}
        self._bm25 = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
        if self._known:
            self._bm25.index(words, show_progress=False)

    def nearest(self, query: str) -> list[int]:
        """All indices by falling similarity; equally similar ones in their order."""
        words = [word for word in _words(query) if word in self._known]
        scores = self._bm25.get_scores(words) if words else [0.0] * self._count
        return sorted(range(self._count), key=lambda index: -float(scores[index]))


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())
