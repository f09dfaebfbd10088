"""Scores as a model writes them: one behind an explanation, or one for each document of a group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank.errors import InputError
from rerank.judges.readings import written_grade
from rerank.judges.writing import WritingJudge
from rerank.prompts.prompt import Prompt
from rerank.questions import Answer, Grade, GradeSet, Question

__all__ = ["WrittenScore"]


class WrittenScore(WritingJudge):
    """InteRank (https://arxiv.org/abs/2504.03947) explains, then grades; GroupRank (https://arxiv.org/abs/2511.11653)
    grades a group of documents together.

    What a grade may be is the prompt's `scale`. What is wrong with an answer is repaired by the rules of
    `rerank.prompts.grading`, and every repair is counted.

    Args:
        folder, prompt, options: as of `WritingJudge`; 1,024 new tokens by default.

    Raises:
        CheckpointError, InputError: as `WritingJudge`; also when the prompt has no scale.
    """

    answers = frozenset({Grade, GradeSet})
    scoring = "written-score 1"
    usual_tokens = 1024

    def __init__(self, folder: str | Path, *, prompt: str | Path | Prompt = "interank", **options: Any) -> None:
        super().__init__(folder, prompt=prompt, **options)

    def read(self, question: Question, text: str) -> Answer:
        """The grade, or the grades, with their repairs."""
        return written_grade(question, text, self.prompt)

    def _checked_prompt(self) -> frozenset[type]:
        if not self.prompt.scale:
            raise InputError(
                f"prompt {self.prompt.name!r} has no scale of grades; write 'scale = [0, 10]' into its file, or take "
                "another judge"
            )
        return super()._checked_prompt()
