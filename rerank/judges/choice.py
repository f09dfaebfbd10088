"""Setwise choices: which of these documents is the most relevant, by the labels' logits or as the model writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank.engine.texts.prompt_tokens import Prompt as Rendered
from rerank.errors import InputError
from rerank.judges.bills import Asked, Given
from rerank.judges.labels import Labels
from rerank.judges.prompted import PromptedJudge
from rerank.judges.readings import by_choice, check_written_pick, written_pick
from rerank.prompts.prompt import Prompt
from rerank.questions import Answer, Pick, Question

__all__ = ["Choice"]

MODES = ("likelihood", "generation")
NEW_TOKENS = 8


class Choice(PromptedJudge):
    """Setwise ranking (Zhuang et al., 2023, https://arxiv.org/abs/2310.09497).

    Args:
        folder, prompt, options: as of `PromptedJudge`.
        mode: "likelihood" reads the logits of all labels in one step, and gives every document a score: the best or
            the worst, and any number of them, can be picked. "generation" reads the label that the model writes; what
            cannot be read keeps the document shown first, and counts as a repair.
        new_tokens: the most tokens of a written answer; more for a model that thinks first.

    Raises:
        CheckpointError, InputError: as `PromptedJudge`; also when a label is not one token, in likelihood mode.
    """

    answers = frozenset({Pick})
    scoring = "choice 1"

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt = "setwise",
        mode: str = "likelihood",
        new_tokens: int = NEW_TOKENS,
        **options: Any,
    ) -> None:
        if mode not in MODES:
            raise InputError(f"mode={mode!r}; choose 'likelihood' or 'generation'")
        if new_tokens < 1:
            raise InputError(f"new_tokens={new_tokens}; an answer needs at least 1")
        self.mode, self.new_tokens = mode, new_tokens
        super().__init__(folder, prompt=prompt, **options)
        self.by_labels = Labels(self) if mode == "likelihood" else None

    @property
    def options(self) -> dict[str, str]:
        """How an answer is read."""
        return {"mode": self.mode} | ({} if self.mode == "likelihood" else {"new tokens": str(self.new_tokens)})

    def room(self, question: Question) -> int:
        """What is written."""
        return self.new_tokens if self.mode == "generation" and self.model.writes_behind else 0

    def render(self, question: Question) -> Rendered:
        """As of `PromptedJudge`; questions that this mode cannot answer are refused."""
        assert isinstance(question, Pick)
        if self.by_labels is not None:
            self.by_labels.check(question)
        else:
            check_written_pick(question, self.prompt)
        return super().render(question)

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One step for all, or one short text each."""
        if self.by_labels is not None:
            scores, work = self.by_labels.scores(asked)
            rows = zip(asked, scores, strict=True)
            return Given([by_choice(each.question, row, self.prompt) for each, row in rows], work)
        return self.written(asked, [self.new_tokens] * len(asked), self._read)

    def _read(self, question: Question, text: str) -> Answer:
        return written_pick(text, self.labels(question), getattr(question, "count", 1))
