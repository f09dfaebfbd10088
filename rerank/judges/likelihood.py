"""Likelihood: how likely a model finds the query behind the document, or an answer to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rerank.engine.texts.prompt_tokens import Prompt as Rendered
from rerank.errors import InputError
from rerank.judges.bills import Asked, Given
from rerank.judges.prompted import PromptedJudge
from rerank.judges.target_words import continuation
from rerank.prompts.prompt import Prompt
from rerank.questions import Grade, Graded, Question

__all__ = ["Likelihood"]

REDUCTIONS = ("mean", "sum")


class Likelihood(PromptedJudge):
    """The log-probability of the query's tokens behind the prompt, or of an answer's, and of nothing else.

    Mean: UPR (https://arxiv.org/abs/2204.07496) and RankingGPT (https://arxiv.org/abs/2311.16720). Sum: query
    likelihood (https://arxiv.org/abs/2310.09497). They order the documents of one query alike and differ where scores
    of queries of different lengths meet. The end token is not counted.

    A prompt that says `continues = "answer"` shows the query, and questions bring the answer whose likelihood is asked
    for (ASRank, https://arxiv.org/abs/2501.15245).

    Args:
        folder, prompt, options: as of `PromptedJudge`. A prompt that the query continues does not show it.
        reduction: "mean" or "sum" over the tokens of what is likely.
    """

    answers = frozenset({Grade})
    scoring = "likelihood 1"

    def __init__(
        self, folder: str | Path, *, prompt: str | Path | Prompt, reduction: str = "mean", **options: Any
    ) -> None:
        if reduction not in REDUCTIONS:
            raise InputError(f"reduction={reduction!r}; choose 'mean' or 'sum'")
        self.reduction = reduction
        super().__init__(folder, prompt=prompt, **options)
        if self.prompt.continues == "query" and "query" in self.templates(1).slots:
            raise InputError(
                f"prompt {self.prompt.name!r} shows the query, whose likelihood is asked for; "
                "choose one that does not, such as 'query-likelihood' or 'rankinggpt'"
            )

    @property
    def options(self) -> dict[str, str]:
        """Mean or sum."""
        return {"reduction": self.reduction}

    def room(self, question: Question) -> int:
        """What is likely stands behind the prompt, where one model reads both."""
        return len(self._continuation(question)) if self.model.writes_behind else 0

    def render(self, question: Question) -> Rendered:
        """As of `PromptedJudge`; special tokens that the query spells out are counted with the prompt's."""
        prompt = super().render(question)
        broken = len(self._borders.texts.special.plain(question.query.text).breaks)
        return replace(prompt, defused=prompt.defused + broken)

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One pass over prompts and what continues them."""
        texts = [self._continuation(each.question) for each in asked]
        found, work = self.model.likelihood([each.prompt for each in asked], texts)
        totals = [numbers.double().sum().item() for numbers in found]
        if self.reduction == "mean":
            totals = [total / len(numbers) for total, numbers in zip(totals, found, strict=True)]
        return Given([Graded(total) for total in totals], work)

    def _continuation(self, question: Question) -> tuple[int, ...]:
        assert isinstance(question, Grade)
        wanted = "a query" if self.prompt.continues == "query" else "an answer"
        if (question.continuation is None) != (self.prompt.continues == "query"):
            raise InputError(
                f"prompt {self.prompt.name!r} is continued by {wanted}, and the question brings "
                f"{'none' if question.continuation is None else 'an answer of its own'}; "
                "algorithm 'answer-scent' asks about answers, and 'pointwise' about queries"
            )
        text = question.query.text if question.continuation is None else question.continuation
        if not (ids := continuation(self.tokenizer, text.strip(), behind=self.tail)):
            raise InputError(f"there is no token in {text!r}, whose likelihood is asked for")
        return ids
