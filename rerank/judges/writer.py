"""Texts as a model writes them: an answer to a query, an expansion of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank.judges.writing import WritingJudge
from rerank.prompts.prompt import Prompt
from rerank.prompts.speech import said
from rerank.questions import Answer, Question, Write, Written

__all__ = ["NEW_TOKENS", "Writer"]

NEW_TOKENS = 64


class Writer(WritingJudge):
    """A text of the model's own: the answer scent of ASRank (https://arxiv.org/abs/2501.15245), the passage of HyDE
    (https://arxiv.org/abs/2212.10496).

    Thoughts in front of it are left out. A text that says nothing is a repair, and counted.

    Args:
        folder, prompt, options: as of `WritingJudge`; 64 new tokens by default.
    """

    answers = frozenset({Write})
    scoring = "writer 1"
    usual_tokens = NEW_TOKENS

    def __init__(self, folder: str | Path, *, prompt: str | Path | Prompt = "answer-scent", **options: Any) -> None:
        super().__init__(folder, prompt=prompt, **options)

    def read(self, question: Question, text: str) -> Answer:
        """What it says."""
        spoken = said(text)
        return Written(spoken, () if spoken else ("nothing was written",))
