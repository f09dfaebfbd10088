"""Comparisons as a model writes them: "Passage A" or "Passage B"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank.errors import InputError
from rerank.judges.bills import Asked, Given
from rerank.judges.prompted import PromptedJudge
from rerank.prompts.prompt import Prompt
from rerank.prompts.reading import read_winner
from rerank.questions import Answer, Compare, Compared, Question

__all__ = ["Preference"]

NEW_TOKENS = 4


class Preference(PromptedJudge):
    """Pairwise ranking prompting in its generation mode (Qin et al., 2023, https://arxiv.org/abs/2306.17563).

    The winner is read from what the model writes behind the answer's beginning. What names neither document, or both,
    is no answer: its probability is None, and it counts as a repair.

    Args:
        folder, prompt, options: as of `PromptedJudge`.
        new_tokens: the most tokens to write.
    """

    answers = frozenset({Compare})
    scoring = "preference 1"

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt = "prp",
        new_tokens: int = NEW_TOKENS,
        **options: Any,
    ) -> None:
        if new_tokens < 1:
            raise InputError(f"new_tokens={new_tokens}; an answer needs at least 1")
        self.new_tokens = new_tokens
        super().__init__(folder, prompt=prompt, **options)

    @property
    def options(self) -> dict[str, str]:
        """How much may be written."""
        return {"new tokens": str(self.new_tokens)}

    def room(self, question: Question) -> int:
        """What is written."""
        return self.new_tokens if self.model.writes_behind else 0

    def ask(self, asked: Sequence[Asked]) -> Given:
        """A few words each."""
        return self.written(asked, [self.new_tokens] * len(asked), _read)


def _read(question: Question, text: str) -> Answer:
    return Compared(*read_winner(text))
