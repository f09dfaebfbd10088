"""Grades and comparisons read off the logits of a few words: yes or no, true or false, A or B, 0 to 4."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.errors import InputError
from rerank.judges.bills import Asked, Given
from rerank.judges.prompted import PromptedJudge
from rerank.judges.target_words import target_ids
from rerank.prompts.prompt import Prompt
from rerank.questions import Answer, Compare, Compared, Grade, Graded

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TargetToken"]


class TargetToken(PromptedJudge):
    """One step of the model, of which only the target words' logits are read.

    A grade is, by the number of targets:

    - one: its raw logit (RankT5, https://arxiv.org/abs/2210.10634; bge-reranker-v2-gemma);
    - two: log P(first) over these two alone (monoT5, https://arxiv.org/abs/2003.06713; Qwen3-Reranker);
    - more: the expected grade, Σ P(target) · grade (https://arxiv.org/abs/2310.14122).

    A comparison is P(first target) over the two: duoT5 (https://arxiv.org/abs/2101.05667), and pairwise ranking
    prompting in its scoring mode (https://arxiv.org/abs/2306.17563). Each order of a pair is a question of its own.

    Args:
        folder, prompt, options: as of `PromptedJudge`.
        targets: words, the better first; by default the prompt's.
        grades: what each target is worth; by default the targets themselves where all are numbers. Only with more than
            two targets.

    Raises:
        CheckpointError, InputError: as `PromptedJudge`; also when a target is not one token where it would be written.
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
        **options: Any,
    ) -> None:
        super().__init__(folder, prompt=prompt, **options)
        words = self.prompt.targets if targets is None else tuple(targets)
        self._check_number(words)
        self.grades = _checked_grades(words, grades)
        self.targets = dict(zip(words, target_ids(self.tokenizer, words, behind=self.tail), strict=True))

    @property
    def options(self) -> dict[str, str]:
        """The targets, with their tokens and what they are worth."""
        said = ", ".join(f"{word!r} = token {token}" for word, token in self.targets.items())
        return {"targets": said, **({"grades": ", ".join(map(str, self.grades))} if self.grades else {})}

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One step of the model for all."""
        ids = [*self.targets.values()]
        logits, work = self.model.logits([each.prompt for each in asked], [ids] * len(asked))
        answers = [self._answer(each, row) for each, row in zip(asked, logits, strict=True)]
        return Given(answers, work)

    def _answer(self, asked: Asked, logits: Tensor) -> Answer:
        if isinstance(asked.question, Compare):
            return Compared(logits.double().softmax(0)[0].item())
        if len(logits) == 1:
            return Graded(logits[0].item())
        if len(logits) == 2:
            return Graded(logits.double().log_softmax(0)[0].item())
        probabilities = logits.double().softmax(0).tolist()
        return Graded(sum(share * grade for share, grade in zip(probabilities, self.grades, strict=True)))

    def _check_number(self, words: Sequence[str]) -> None:
        if not words:
            raise InputError(
                f"prompt {self.prompt.name!r} names no targets; give them (targets=['yes', 'no']) or take another judge"
            )
        if Compare in self.answers and len(words) != 2:
            raise InputError(f"a comparison needs two targets, the first wins; there are {len(words)}: {list(words)}")


def _checked_grades(words: Sequence[str], grades: Sequence[float] | None) -> tuple[float, ...]:
    if len(words) <= 2:
        if grades is not None:
            raise InputError(f"grades={list(grades)} with {len(words)} targets, whose logits are the score; leave out")
        return ()
    if grades is None:
        if not all(word.strip().isdecimal() for word in words):
            raise InputError(f"what are the targets {', '.join(map(repr, words))} worth? Give grades, one for each")
        grades = [float(word) for word in words]
    if len(grades) != len(words):
        raise InputError(f"there are {len(grades)} grades for {len(words)} targets")
    if any(before <= after for before, after in pairwise(grades)):
        raise InputError(f"grades={list(grades)} do not fall; the better target stands first")
    return tuple(map(float, grades))
