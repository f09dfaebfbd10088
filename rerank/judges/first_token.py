"""FIRST: the order of a whole window from the logits of its first identifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank.engine.texts.prompt_tokens import Prompt as Rendered
from rerank.judges.bills import Asked, Given
from rerank.judges.labels import Labels
from rerank.judges.prompted import PromptedJudge
from rerank.judges.readings import ordered
from rerank.prompts.prompt import Prompt
from rerank.questions import Permute, Question

__all__ = ["FirstToken"]


class FirstToken(PromptedJudge):
    """Documents in the order of the logits of their identifiers, where the model would write the first of them
    (Reddy et al., 2024, https://arxiv.org/abs/2406.15657).

    All identifiers are read, exactly, at the token behind "["; nothing is written. Equal logits keep the order shown.

    Args:
        folder, prompt, options: as of `PromptedJudge`. The prompt's answer ends where an identifier follows.

    Raises:
        CheckpointError, InputError: as `PromptedJudge`; also when the tokenizer reads an identifier together with what
            stands in front of it, or as several tokens.
    """

    answers = frozenset({Permute})
    scoring = "first-token 1"

    def __init__(self, folder: str | Path, *, prompt: str | Path | Prompt = "first", **options: Any) -> None:
        super().__init__(folder, prompt=prompt, **options)
        self.by_labels = Labels(self)

    def render(self, question: Question) -> Rendered:
        """As of `PromptedJudge`; more documents than identifiers of one token are refused."""
        self.by_labels.check(question)
        return super().render(question)

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One step of the model for all."""
        found, work = self.by_labels.scores(asked)
        return Given([ordered(scores) for scores in found], work)
