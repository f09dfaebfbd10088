"""What judges share whose model writes its answers: how much may be written, how, and who reads it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from rerank.errors import InputError
from rerank.judges.bills import Asked, Given, Work
from rerank.judges.prompted import PromptedJudge
from rerank.judges.text_models import Manner, Outcome
from rerank.prompts.prompt import Prompt
from rerank.prompts.speech import opens_thought
from rerank.questions import Answer, Question

__all__ = ["GeneratingJudge", "WritingJudge", "written_tokens"]

SAMPLING = ("temperature", "top_p", "seed")


class GeneratingJudge(PromptedJudge):
    """A judge whose model writes.

    Args:
        folder, prompt, options: as of `PromptedJudge`.
        new_tokens: the most tokens to write, as the prompt's file says by default; more for a model that thinks first.
        temperature: 0 (the default) takes the likeliest token, anything above draws; a question's `draw` gives another
            sample.
        top_p: draws from the likeliest tokens that have this much probability together; only with a temperature.
        seed: of what is drawn, which is nothing without a temperature. With one it is shown in the ledger, and part of
            every answer's key.

    Raises:
        CheckpointError, InputError: as `PromptedJudge`; also when nothing may be written, or nothing can be drawn so.
    """

    usual_tokens: ClassVar[int] = 0
    """What may be written when the user says nothing; 0: as much as a list of all documents takes."""

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt,
        new_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        if new_tokens is not None and new_tokens < 1:
            raise InputError(f"new_tokens={new_tokens}; an answer needs at least 1")
        self.manner = _manner(temperature, top_p, seed)
        super().__init__(folder, prompt=prompt, **options)
        self.new_tokens = new_tokens or self.prompt.new_tokens or self.usual_tokens or None
        self.manner = replace(self.manner, stop=self.stop())

    def stop(self) -> tuple[str, ...]:
        """Strings at which an answer ends."""
        return self.prompt.stop

    def most(self, question: Question) -> int:
        """Tokens that an answer may have."""
        assert self.new_tokens is not None
        return self.new_tokens

    @property
    def options(self) -> dict[str, str]:
        """How much may be written, and how it is drawn."""
        drawn = {name.replace("_", "-"): str(getattr(self.manner, name)) for name in SAMPLING}
        return {
            **super().options,
            "new tokens": str(self.new_tokens or "a complete list"),
            **(drawn if self.manner.temperature else {}),
        }

    def room(self, question: Question) -> int:
        """What is written."""
        return self.most(question) if self.model.writes_behind else 0

    def continued(self, asked: Sequence[Asked]) -> tuple[list[Outcome], Work]:
        """A text for each question, and what they took."""
        prompts, limits = [each.prompt for each in asked], [self.most(each.question) for each in asked]
        return self.model.write(prompts, limits, self.manner, [each.question.draw for each in asked])


class WritingJudge(GeneratingJudge):
    """A judge whose answers are read from what its model writes. Subclasses say how.

    Args:
        folder, prompt, options: as of `GeneratingJudge`.
    """

    @abstractmethod
    def read(self, question: Question, text: str) -> Answer:
        """An answer from its text, the beginning that the prompt gives it included."""

    def ask(self, asked: Sequence[Asked]) -> Given:
        """A text each, read."""
        texts, work = self.continued(asked)
        answers = [
            text if isinstance(text, Exception) else self.read(each.question, self._begun(text.text))
            for each, text in zip(asked, texts, strict=True)
        ]
        return Given(answers, work, written_tokens(texts))

    def _begun(self, text: str) -> str:
        """A text with the beginning of the thought that its prompt ends inside, where it does."""
        inside = self.model.writes_behind and not self.prompt.answer and opens_thought(self.tail)
        return f"<think>{text}" if inside else text


def written_tokens(texts: Sequence[Outcome]) -> list[int]:
    """How many tokens were written for each; none for what went wrong."""
    return [0 if isinstance(text, Exception) else text.tokens for text in texts]


def _manner(temperature: float, top_p: float | None, seed: int | None) -> Manner:
    if not math.isfinite(temperature) or temperature < 0:
        raise InputError(f"temperature={temperature}; it is 0 for the likeliest token, or a number above")
    if not temperature and top_p is not None:
        raise InputError(f"top_p={top_p} is of what is drawn, and temperature=0 draws nothing")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p={top_p} is a probability, above 0 and at most 1")
    if seed is not None and seed < 0:
        raise InputError(f"seed={seed}; it may not be below 0")
    return Manner(float(temperature), 1.0 if top_p is None else float(top_p), seed or 0)
