"""Comparisons as a model writes them: "Passage A" or "Passage B"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank.judges.writing import WritingJudge
from rerank.prompts.prompt import Prompt
from rerank.prompts.reading import read_winner
from rerank.questions import Answer, Compare, Compared, Question

__all__ = ["Preference"]


class Preference(WritingJudge):
    """Pairwise ranking prompting in its generation mode (Qin et al., 2023, https://arxiv.org/abs/2306.17563).

    The winner is read from what the model writes behind the answer's beginning. What names neither document, or both,
    is no answer: its probability is None, and it counts as a repair.

    Args:
        folder, prompt, options: as of `WritingJudge`; 4 new tokens by default.
    """

    answers = frozenset({Compare})
    scoring = "preference 1"
    usual_tokens = 4

    def __init__(self, folder: str | Path, *, prompt: str | Path | Prompt = "prp", **options: Any) -> None:
        super().__init__(folder, prompt=prompt, **options)

    def read(self, question: Question, text: str) -> Answer:
        """Who wins."""
        return Compared(*read_winner(text))
