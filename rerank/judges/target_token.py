"""Grades and comparisons read off the logits of a few words: yes or no, true or false, A or B, 0 to 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rerank.errors import InputError
from rerank.judges.bills import Asked, Given
from rerank.judges.prompted import PromptedJudge
from rerank.judges.readings import by_targets, check_targets, checked_grades, checked_reading, usual_reading
from rerank.judges.target_words import target_ids
from rerank.prompts.prompt import Prompt
from rerank.questions import Answer, Compare, Grade, Graded

__all__ = ["TargetToken"]


class TargetToken(PromptedJudge):
    """One step of the model, of which only the target words' logits are read.

    A grade is, by the number of targets:

    - one: its raw logit (RankT5, https://arxiv.org/abs/2210.10634; bge-reranker-v2-gemma);
    - two: log P(first) over these two alone (monoT5, https://arxiv.org/abs/2003.06713; Qwen3-Reranker), or with
      `reading="difference"` the first logit less the second (mxbai-rerank-v2): the same order, and another scale;
    - more: the expected grade, Σ P(target) · grade (https://arxiv.org/abs/2310.14122).

    A comparison is P(first target) over the two: duoT5 (https://arxiv.org/abs/2101.05667), and pairwise ranking
    prompting in its scoring mode (https://arxiv.org/abs/2306.17563). Each order of a pair is a question of its own.

    Args:
        folder, prompt, options: as of `PromptedJudge`.
        targets: words, the better first; by default the prompt's.
        grades: what each target is worth; by default what the prompt says, or the targets themselves where all are
            numbers. Only with more than two targets.
        reading: "logit", "log-probability", "difference" or "expected"; by default the prompt's, else by the number of
            targets. Not of a comparison.
        keep_logits: a grade brings the raw logits of its targets along, for students that learn them (`rerank label
            --labels logits`).

    Raises:
        CheckpointError, InputError: as `PromptedJudge`; also when a target is not one token where it would be written,
            or logits of a comparison are to be kept.
    """

    answers = frozenset({Grade, Compare})
    scoring = "target-token 1"

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt,
        targets: Sequence[str] | None = None,
        grades: Sequence[float] | None = None,
        reading: str | None = None,
        keep_logits: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(folder, prompt=prompt, **options)
        words = self.prompt.targets if targets is None else tuple(targets)
        check_targets(self.prompt.name, words, Compare in self.answers)
        self.grades = checked_grades(words, self.prompt.grades or None if grades is None else grades)
        self.reading = "" if Compare in self.answers else checked_reading(words, reading or self.prompt.reading)
        if keep_logits and Compare in self.answers:
            raise InputError(f"keep_logits is for grades, and prompt {self.prompt.name!r} compares; leave it out")
        self.keeps_logits = keep_logits
        self.targets = dict(zip(words, target_ids(self.tokenizer, words, behind=self.tail), strict=True))

    @property
    def scale(self) -> str:
        """By how the targets are read; an expected grade is on a scale of its own."""
        reading = self.reading or usual_reading(len(self.targets))
        return {"logit": "logit", "difference": "logit", "log-probability": "log-probability"}.get(reading, "")

    @property
    def options(self) -> dict[str, str]:
        """The targets, with their tokens and what they are worth."""
        said = ", ".join(f"{word!r} = token {token}" for word, token in self.targets.items())
        worth = {"grades": ", ".join(map(str, self.grades))} if self.grades else {}
        kept = {"logits": "kept"} if self.keeps_logits else {}
        return {"targets": said, **worth, **({"reading": self.reading} if self.reading else {}), **kept}

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One step of the model for all."""
        ids = [*self.targets.values()]
        logits, work = self.model.logits([each.prompt for each in asked], [ids] * len(asked))
        rows = [row.double().tolist() for row in logits]
        return Given([self._answer(each, row) for each, row in zip(asked, rows, strict=True)], work)

    def _answer(self, asked: Asked, logits: list[float]) -> Answer:
        answer = by_targets(asked.question, logits, self.grades, reading=self.reading)
        return replace(answer, logits=tuple(logits)) if self.keeps_logits and isinstance(answer, Graded) else answer
