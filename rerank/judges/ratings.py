"""Fine-grained relevance: how likely each of several labels is, be it a number or a few words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rerank.errors import InputError
from rerank.judges.bills import Asked, Given
from rerank.judges.prompted import PromptedJudge
from rerank.judges.readings import checked_grades
from rerank.judges.target_words import continuation
from rerank.prompts.prompt import Prompt
from rerank.questions import Grade, Graded, Question

__all__ = ["Ratings"]

READINGS = ("expected", "peak")


class Ratings(PromptedJudge):
    """Rating scales and relevance labels (Zhuang et al., 2023, https://arxiv.org/abs/2310.14122).

    A label's log-likelihood is that of all its tokens behind the prompt, over the whole vocabulary. A score is, by
    `reading`:

    - "expected": Σ P(label) · grade, P a softmax over the labels (their expected relevance, ER);
    - "peak": the log-likelihood of the best label (their peak relevance likelihood, PRL).

    Args:
        folder, prompt, options: as of `PromptedJudge`.
        targets: the labels, the better first; by default the prompt's. Any number of tokens each.
        grades: what each is worth; by default what the prompt says, or the labels themselves where all are numbers.
        reading: "expected" or "peak"; by default the prompt's, else "expected".

    Raises:
        CheckpointError, InputError: as `PromptedJudge`; also when labels are too few, or the same tokens.
    """

    answers = frozenset({Grade})
    scoring = "ratings 1"

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt,
        targets: Sequence[str] | None = None,
        grades: Sequence[float] | None = None,
        reading: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(folder, prompt=prompt, **options)
        words = self.prompt.targets if targets is None else tuple(targets)
        self.reading = reading or self.prompt.reading or "expected"
        if self.reading not in READINGS:
            raise InputError(f"reading={self.reading!r}; labels are read by 'expected' or 'peak'")
        if len(words) < 3:
            raise InputError(f"{list(words)} are {len(words)} labels; two or fewer are read by judge='target-token'")
        self.grades = checked_grades(words, self.prompt.grades or None if grades is None else grades)
        self.labels_by_tokens = {word: continuation(self.tokenizer, word, behind=self.tail) for word in words}
        if len(set(self.labels_by_tokens.values())) < len(words):
            raise InputError(f"the labels {', '.join(map(repr, words))} are not different tokens each")

    @property
    def options(self) -> dict[str, str]:
        """The labels with their tokens, what they are worth, and how they are read."""
        said = "; ".join(f"{word!r} = {' '.join(map(str, ids))}" for word, ids in self.labels_by_tokens.items())
        return {"targets": said, "grades": ", ".join(map(str, self.grades)), "reading": self.reading}

    def room(self, question: Question) -> int:
        """The longest label stands behind the prompt, where one model reads both."""
        return max(map(len, self.labels_by_tokens.values())) if self.model.writes_behind else 0

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One step of the model where every label is one token and all are read; else every label behind every
        prompt."""
        if self.reading == "expected" and all(len(ids) == 1 for ids in self.labels_by_tokens.values()):
            ids = [token for label in self.labels_by_tokens.values() for token in label]
            rows, work = self.model.logits([each.prompt for each in asked], [ids] * len(asked))
            return Given([self._expected(row.double()) for row in rows], work)
        labels = [*self.labels_by_tokens.values()][: 1 if self.reading == "peak" else None]
        prompts = [each.prompt for each in asked for _ in labels]
        found, work = self.model.likelihood(prompts, labels * len(asked))
        likely = torch.stack([numbers.double().sum() for numbers in found]).view(len(asked), len(labels))
        if self.reading == "peak":
            return Given([Graded(row[0].item()) for row in likely], work)
        return Given([self._expected(row) for row in likely], work)

    def _expected(self, likely: Tensor) -> Graded:
        return Graded((likely.softmax(0) @ torch.tensor(self.grades, dtype=likely.dtype)).item())
