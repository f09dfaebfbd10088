"""Listwise orders as a model writes them: "[2] > [3] > [1]"."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rerank.errors import InputError
from rerank.judges.bills import Asked, Given
from rerank.judges.prompted import PromptedJudge
from rerank.judges.readings import written_list
from rerank.prompts.prompt import Prompt
from rerank.questions import Permute, Permuted, Question

__all__ = ["Permutation"]

SLACK = 8
"""Tokens beside a complete list: a space in front, the end token."""


class Permutation(PromptedJudge):
    """RankGPT (https://arxiv.org/abs/2304.09542), LRL, RankVicuna, RankZephyr: the model writes the order, greedily.

    As many tokens may be written as a complete list takes. What is wrong with a list is repaired by the rules of
    `rerank.prompts.reading.read_order`, and every repair is counted.

    Args:
        folder, prompt, options: as of `PromptedJudge`.
        new_tokens: the most tokens to write, instead; more for a model that thinks first.
    """

    answers = frozenset({Permute})
    scoring = "permutation 1"

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt = "rankgpt",
        new_tokens: int | None = None,
        **options: Any,
    ) -> None:
        if new_tokens is not None and new_tokens < 1:
            raise InputError(f"new_tokens={new_tokens}; an answer needs at least 1")
        self.new_tokens = new_tokens
        self._complete = lru_cache(maxsize=64)(self._tokens_of_a_list)
        super().__init__(folder, prompt=prompt, **options)

    @property
    def options(self) -> dict[str, str]:
        """How much may be written."""
        return {"new tokens": "a complete list" if self.new_tokens is None else str(self.new_tokens)}

    def room(self, question: Question) -> int:
        """What is written."""
        return self._most(question) if self.model.writes_behind else 0

    def ask(self, asked: Sequence[Asked]) -> Given:
        """A list each."""
        return self.written(asked, [self._most(each.question) for each in asked], self._read)

    def _read(self, question: Question, text: str) -> Permuted:
        return written_list(text, self.labels(question), best_last=self.prompt.best_last)

    def _most(self, question: Question) -> int:
        return self.new_tokens or self._complete(len(self.shown(question)))

    def _tokens_of_a_list(self, count: int) -> int:
        """Of a list that names every document as the prompt does."""
        written = self.prompt.complete_list(count)
        return len(self.tokenizer(written, add_special_tokens=False)["input_ids"]) + SLACK
