"""Listwise orders as a model writes them: "[2] > [3] > [1]"."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from rerank.judges.readings import written_list
from rerank.judges.writing import WritingJudge
from rerank.prompts.prompt import Prompt
from rerank.questions import Permute, Permuted, Question

__all__ = ["Permutation"]

SLACK = 8
"""Tokens beside a complete list: a space in front, the end token."""


class Permutation(WritingJudge):
    """RankGPT (https://arxiv.org/abs/2304.09542), LRL, RankVicuna, RankZephyr: the model writes the order.

    Rank-K (https://arxiv.org/abs/2505.14432), ReasonRank (https://arxiv.org/abs/2508.07050) and REARANK
    (https://arxiv.org/abs/2505.20046) think first, which takes `new_tokens`. By default as many tokens may be written
    as a complete list takes. What is wrong with a list is repaired by the rules of
    `rerank.prompts.reading.read_order`, and every repair is counted.

    Args:
        folder, prompt, options: as of `WritingJudge`.
    """

    answers = frozenset({Permute})
    scoring = "permutation 2"

    def __init__(self, folder: str | Path, *, prompt: str | Path | Prompt = "rankgpt", **options: Any) -> None:
        self._complete = lru_cache(maxsize=64)(self._tokens_of_a_list)
        super().__init__(folder, prompt=prompt, **options)

    def most(self, question: Question) -> int:
        """Tokens that a list may have."""
        return self.new_tokens or self._complete(len(self.shown(question)))

    def read(self, question: Question, text: str) -> Permuted:
        """The order, with its repairs."""
        return written_list(text, self.labels(question), best_last=self.prompt.best_last)

    def _tokens_of_a_list(self, count: int) -> int:
        """Of a list that names every document as the prompt does."""
        written = self.prompt.complete_list(count)
        return len(self.tokenizer(written, add_special_tokens=False)["input_ids"]) + SLACK
