"""Grades behind a thought: the model thinks, and then says one of two words, whose probability is the score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from rerank.engine.texts.prompt_tokens import Prompt as Rendered
from rerank.errors import InputError
from rerank.judges.bills import Asked, Given, Work
from rerank.judges.target_words import target_ids
from rerank.judges.text_models import Wrote
from rerank.judges.writing import GeneratingJudge, written_tokens
from rerank.prompts.prompt import Prompt
from rerank.prompts.speech import CLOSED
from rerank.questions import Answer, Grade, Graded, Question

__all__ = ["Reasoning"]

END = "</think>"
LAST_LINE = re.compile(r"\S[^\n]*\s*\Z")
SENTENCE_ENDS = (".", "!", "?")
SLACK = 8
"""Tokens that a thought may grow by when it is cut off and ended: the end of it, and other pieces at the border."""


class Reasoning(GeneratingJudge):
    """Rank1 (Weller et al., 2025, https://arxiv.org/abs/2502.18418): think, then "true" or "false".

    The model writes until it says one of the prompt's two targets right behind `</think>`. The score is P(first) of
    these two, in an exact step over the thought that was written. A thought that does not come to that (it was cut off,
    or something else follows it) is ended: at its last complete sentence, with `</think>` on a line of its own, and
    the score is that of the word behind it. This counts as a repair.

    Args:
        folder, prompt, options: as of `GeneratingJudge`; 8,192 new tokens by default.
        wording: the collection that queries are worded for: `bright`, `bright-leetcode`, `scifact` …, see the prompt.

    Raises:
        CheckpointError, InputError: as `GeneratingJudge`; also when the prompt does not name two targets, one of them
            is not one token, or the model is no causal one.
    """

    answers = frozenset({Grade})
    scoring = "reasoning 1"
    scale = "probability"
    usual_tokens = 8192

    def __init__(self, folder: str | Path, *, prompt: str | Path | Prompt = "rank1", **options: Any) -> None:
        super().__init__(folder, prompt=prompt, **options)
        if len(self.prompt.targets) != 2:
            named = len(self.prompt.targets)
            raise InputError(f"prompt {self.prompt.name!r} names {named} targets; behind a thought stands one of two")
        if not self.model.writes_behind:
            raise InputError(f"{self.folder.name} is a T5, which reads no thought of its own; take a causal model")
        self.targets = target_ids(self.tokenizer, self.prompt.targets, behind=END)

    @property
    def options(self) -> dict[str, str]:
        """The targets, with their tokens, and how thoughts are written."""
        named = zip(self.prompt.targets, self.targets, strict=True)
        return {"targets": ", ".join(f"{word!r} = token {token}" for word, token in named), **super().options}

    def stop(self) -> tuple[str, ...]:
        """The targets behind the end of a thought."""
        return tuple(END + target for target in self.prompt.targets)

    def room(self, question: Question) -> int:
        """What is written, and the end that it may be given."""
        return self.most(question) + SLACK

    def ask(self, asked: Sequence[Asked]) -> Given:
        """Thoughts for all, then one step behind each."""
        texts, writing = self.continued(asked)
        thoughts = [
            (index, *self.thought(asked[index].prompt, text))
            for index, text in enumerate(texts)
            if not isinstance(text, Exception)
        ]
        scores, scoring = self._scores([prompt for _, prompt, _ in thoughts])
        answers: dict[int, Answer | Exception] = {
            index: text for index, text in enumerate(texts) if isinstance(text, Exception)
        }
        for (index, _, repairs), score in zip(thoughts, scores, strict=True):
            answers[index] = Graded(score, repairs)
        given = [answers[index] for index in range(len(asked))]
        return Given(given, Work.total([writing, *scoring]), written_tokens(texts))

    def thought(self, prompt: Rendered, text: Wrote) -> tuple[Rendered, tuple[str, ...]]:
        """What the verdict is read behind, to the end of the thought; and what had to be done for it."""
        if text.stop is not None and text.ids[-1] in self.targets:
            return Rendered((*prompt.segments, *filter(None, [text.ids[:-1]]))), ()
        repair = "thought cut off" if text.cut else "no verdict behind the thought"
        ended = f"\n{last_sentence(CLOSED.split(text.text)[0])}\n{END}"
        return self._behind(prompt, ended), (repair,)

    def _behind(self, prompt: Rendered, text: str) -> Rendered:
        """A prompt that goes on with a text, its last line read together with it as a tokenizer does."""
        line = LAST_LINE.search(self.tail)
        anchor = line[0] if line else ""
        before, whole = self._ids(anchor), self._ids(anchor + text)
        kept = len(prompt) - len(before)
        if prompt.ids[kept:] != before:
            return Rendered((*prompt.segments, tuple(self._ids(text))))
        starts = accumulate(map(len, prompt.segments), initial=0)
        segments = [segment[: max(0, kept - start)] for segment, start in zip(prompt.segments, starts, strict=False)]
        return Rendered((*filter(None, segments), tuple(whole)))

    def _scores(self, prompts: Sequence[Rendered]) -> tuple[list[float], list[Work]]:
        """P(first target) behind each prompt, a few passes of the model at a time."""
        scores: dict[int, float] = {}
        works = []
        for batch in self.model.pack(list(map(len, prompts)), self.token_budget) if prompts else []:
            rows, work = self.model.logits([prompts[index] for index in batch], [self.targets] * len(batch))
            scores |= {index: row.double().softmax(0)[0].item() for index, row in zip(batch, rows, strict=True)}
            works.append(work)
        return [scores[index] for index in range(len(prompts))], works

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def last_sentence(thought: str) -> str:
    """A thought up to the end of its last complete sentence; all of it when there is none."""
    end = max(thought.rfind(mark) for mark in SENTENCE_ENDS)
    return thought[: end + 1].strip() if end >= 0 else thought.strip()
