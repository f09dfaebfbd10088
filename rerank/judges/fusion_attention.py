"""How much of each document a decoder reads while it answers: relevance without a word about relevance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank.errors import InputError
from rerank.judges.bills import Asked, Given, Work
from rerank.judges.prompted import PromptedJudge
from rerank.judges.sequence_text import SequenceText
from rerank.prompts.prompt import Blank, Prompt
from rerank.questions import GradedSet, GradeSet, Question

__all__ = ["FusionAttention"]


class FusionAttention(PromptedJudge):
    """LiT5-Score (Tamber et al., 2023, https://arxiv.org/abs/2312.16098), over a T5 that was trained to answer.

    Each document is a text of its own behind the question; the decoder answers the question, greedily. A document's
    score is the cross-attention that its tokens got, weighted by the length of their values: the mean over heads,
    summed over layers, over what was written and over the text's tokens, the question's left out; divided by 256 and
    by the number of layers, as published.

    Args:
        folder, prompt, options: as of `PromptedJudge`. `max_tokens` is of each text: question and document.
        new_tokens: the most tokens of the answer.

    Raises:
        CheckpointError: when the checkpoint is no T5.
        InputError: when nothing may be written, or the prompt does not begin with the question.
    """

    answers = frozenset({GradeSet})
    scoring = "fusion-attention 1"
    fuses = True

    def __init__(
        self, folder: str | Path, *, prompt: str | Path | Prompt = "lit5-score", new_tokens: int = 19, **options: Any
    ) -> None:
        if new_tokens < 1:
            raise InputError(f"new_tokens={new_tokens}; an answer needs at least 1")
        self.new_tokens = new_tokens
        super().__init__(folder, prompt=prompt, **options)
        parts = self.prompt.render(1)[0][1]
        query = next((at for at, part in enumerate(parts) if isinstance(part, Blank) and part.name == "query"), None)
        if query is None or any(isinstance(part, Blank) for part in parts[:query]):
            raise InputError(f"prompt {self.prompt.name!r} does not begin with the query, whose tokens do not count")
        self._front = "".join(part for part in parts[:query] if isinstance(part, str))

    @property
    def options(self) -> dict[str, str]:
        """How much may be written."""
        return {"new tokens": str(self.new_tokens)}

    def ask(self, asked: Sequence[Asked]) -> Given:
        """An answer each, of which only what it was read from is kept."""
        assert isinstance(self.model, SequenceText)
        read = self.model.model.read(
            [each.prompt.texts for each in asked],
            skip=[self._skipped(each.question) for each in asked],
            max_tokens=self.new_tokens,
            prefix=self.model.prefix,
        )
        answers = [GradedSet(tuple(shares.tolist())) for shares in read.shares]
        work = Work(read.tokens, read.padded, read.flops, calls=1 + read.steps)
        return Given(answers, work, [len(text) for text in read.texts])

    def _skipped(self, question: Question) -> int:
        """Tokens at the beginning of every text that say the question."""
        [ids] = self._borders.texts.encode([self._front + self.texts(question)["query"]])
        return len(ids)
