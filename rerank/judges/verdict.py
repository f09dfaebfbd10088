"""Grades from a verdict and a grade behind it: "yes(3)", both read off logits, nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.engine.texts.prompt_tokens import Prompt as Rendered
from rerank.errors import InputError
from rerank.judges.bills import Asked, Given
from rerank.judges.prompted import PromptedJudge
from rerank.judges.target_words import target_ids
from rerank.prompts.prompt import Prompt
from rerank.questions import Grade, Graded, Question

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Verdict"]

GRADES = ("0", "1", "2", "3", "4")
OPENS = "("


class Verdict(PromptedJudge):
    """TFRank (Fan et al., 2025, https://arxiv.org/abs/2508.09539): "yes(4)" without a thought.

    The score is ½ (E / 4 + P(yes)): P(yes) of the two verdicts in the answer's first step, and E the expected grade
    over the digits 0 to 4 behind "(", which stands behind the likelier verdict. So the authors' code reads them, where
    the model writes its answer greedily; here all of it is one call, and exact where that code sees the 20 likeliest
    tokens.

    Args:
        folder, prompt, options: as of `PromptedJudge`.

    Raises:
        CheckpointError, InputError: as `PromptedJudge`; also when the prompt does not name two targets, one of them or
            a grade is not one token, or the model is no causal one.
    """

    answers = frozenset({Grade})
    scoring = "verdict 1"
    scale = "probability"

    def __init__(self, folder: str | Path, *, prompt: str | Path | Prompt = "tfrank", **options: Any) -> None:
        super().__init__(folder, prompt=prompt, **options)
        if len(self.prompt.targets) != 2:
            raise InputError(
                f"prompt {self.prompt.name!r} names {len(self.prompt.targets)} targets; a verdict is of two"
            )
        if not self.model.writes_behind:
            raise InputError(f"{self.folder.name} is a T5, which no verdict is read behind; take a causal model")
        self.verdicts = target_ids(self.tokenizer, self.prompt.targets, behind=self.tail)
        self.openings = [self._opening(word) for word in self.prompt.targets]
        self.grades = target_ids(self.tokenizer, GRADES, behind=self.tail + self.prompt.targets[0] + OPENS)

    @property
    def options(self) -> dict[str, str]:
        """The verdicts and the grades, with their tokens."""
        named = [*zip(self.prompt.targets, self.verdicts, strict=True), *zip(GRADES, self.grades, strict=True)]
        return {"targets": ", ".join(f"{word!r} = token {token}" for word, token in named)}

    def room(self, question: Question) -> int:
        """A verdict and its bracket."""
        return max(map(len, self.openings))

    def ask(self, asked: Sequence[Asked]) -> Given:
        """Verdicts, and grades behind either of them, in one call: they share all of a prompt."""
        prompts, targets = [], []
        for each in asked:
            behind = [Rendered((*each.prompt.segments, opening)) for opening in self.openings]
            prompts += [each.prompt, *behind]
            targets += [self.verdicts, self.grades, self.grades]
        rows, work = self.model.logits(prompts, targets)
        answers = [Graded(score(*rows[index : index + 3])) for index in range(0, len(rows), 3)]
        return Given(answers, work)

    def _opening(self, word: str) -> tuple[int, ...]:
        """The tokens of a verdict and the bracket behind it."""
        [verdict] = target_ids(self.tokenizer, [word], behind=self.tail)
        written = self.tail + word
        before = self._ids(written)
        whole = self._ids(written + OPENS)
        if whole[: len(before)] != before:
            raise InputError(f"the tokenizer reads {word + OPENS!r} as one, and no grade stands behind it")
        return (verdict, *whole[len(before) :])

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def score(verdicts: Tensor, if_yes: Tensor, if_no: Tensor) -> float:
    """½ (E / 4 + P(yes)), E behind the likelier verdict; of equal ones behind the first.

    Args:
        verdicts: logits of yes and no: [2].
        if_yes, if_no: logits of the grades 0 to 4 behind "yes(" and behind "no(": [5].
    """
    behind = if_yes if verdicts[0] >= verdicts[1] else if_no
    shares = behind.double().softmax(0).tolist()
    expected = sum(share * grade for grade, share in enumerate(shares))
    yes: float = verdicts.double().softmax(0)[0].item()
    return float(expected / (len(shares) - 1) + yes) / 2
