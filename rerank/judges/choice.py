"""Setwise choices: which of these documents is the most relevant, by the labels' logits or as the model writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank.engine.texts.prompt_tokens import Prompt as Rendered
from rerank.errors import InputError
from rerank.judges.bills import Asked, Given
from rerank.judges.labels import Labels
from rerank.judges.readings import by_choice, check_written_pick, wanted, written_pick
from rerank.judges.writing import WritingJudge
from rerank.prompts.prompt import Prompt
from rerank.questions import Answer, Pick, Question

__all__ = ["Choice"]

MODES = ("likelihood", "generation")
WRITTEN = ("new_tokens", "temperature", "top_p")


class Choice(WritingJudge):
    """Setwise ranking (Zhuang et al., 2023, https://arxiv.org/abs/2310.09497), Rank-R1, IRanker.

    Args:
        folder, prompt: as of `PromptedJudge`.
        mode: "likelihood" (the default) reads the logits of all labels in one step, and gives every document a score:
            the best or the worst, and any number of them, can be picked. "generation" reads the label that the model
            writes: the best one, or the worst one where that is what the prompt asks for; the default of prompts that
            let the model think. What cannot be read names nothing, and counts as a repair: what that is taken for is
            the algorithm's affair.
        options: as of `WritingJudge`; what may be written and how is of "generation" alone, with 8 new tokens by
            default; more for a model that thinks first.

    Raises:
        CheckpointError, InputError: as `WritingJudge`; also when a label is not one token, in likelihood mode.
    """

    answers = frozenset({Pick})
    scoring = "choice 2"
    usual_tokens = 8

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt = "setwise",
        mode: str | None = None,
        **options: Any,
    ) -> None:
        if mode not in (None, *MODES):
            raise InputError(f"mode={mode!r}; choose 'likelihood' or 'generation'")
        self.asked_mode = mode
        super().__init__(folder, prompt=prompt, **options)
        if mode == "likelihood" and self._is_written:
            raise InputError(f"the answer to prompt {self.prompt.name!r} is written; say mode='generation'")
        written = [name for name in WRITTEN if options.get(name) is not None]
        if self.mode == "likelihood" and written:
            raise InputError(
                f"{written[0]}={options[written[0]]} is of what is written, and mode='likelihood' writes nothing; "
                "say mode='generation'"
            )
        self.by_labels = Labels(self) if self.mode == "likelihood" else None

    @property
    def mode(self) -> str:
        """How it is answered."""
        return self.asked_mode or ("generation" if self._is_written else "likelihood")

    @property
    def _is_written(self) -> bool:
        return self.prompt.worst or self.prompt.exact or self.prompt.new_tokens is not None

    @property
    def options(self) -> dict[str, str]:
        """How an answer is read."""
        return {"mode": self.mode} | ({} if self.mode == "likelihood" else super().options)

    def room(self, question: Question) -> int:
        """What is written."""
        return super().room(question) if self.mode == "generation" else 0

    def render(self, question: Question) -> Rendered:
        """As of `PromptedJudge`; questions that this mode cannot answer are refused."""
        assert isinstance(question, Pick)
        if self.by_labels is not None:
            self.by_labels.check(question)
        else:
            check_written_pick(question, self.prompt)
        return super().render(question)

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One step for all, or one text each."""
        if self.by_labels is None:
            return super().ask(asked)
        scores, work = self.by_labels.scores(asked)
        rows = zip(asked, scores, strict=True)
        return Given([by_choice(each.question, row, self.prompt) for each, row in rows], work)

    def read(self, question: Question, text: str) -> Answer:
        """The labels that are written; nothing where there is none."""
        return written_pick(text, self.labels(question), wanted(question), exact=self.prompt.exact)
