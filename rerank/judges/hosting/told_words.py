"""Log-probabilities of words, out of the few likeliest tokens that a server tells of."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from rerank.errors import JudgeError
from rerank.judges.hosting.replies import Step

__all__ = ["bare", "behind", "behind_text", "word_scores"]

AROUND = re.compile(r"^\W+|\W+$")


def word_scores(
    steps: Sequence[Step], words: Sequence[str], begun: str, *, thinks: bool = False
) -> tuple[list[float], int]:
    """The log-probability of each word where the model gives its answer, and how many of them were not told.

    It is read behind the answer's beginning where the model wrote that, else where the first of the words was written,
    else at the first token. A word is told of by its likeliest spelling, with or without a space or a bracket beside
    it. What is not among the tokens told has at most the probability of the last of them, and at most what they leave
    over: that bound is taken for it.

    Args:
        steps: what was written.
        words: what may be the answer.
        begun: how the answer begins.
        thinks: whether the model begins inside a thought: what stands in one that is not ended is no answer.
    """
    names = [bare(word) for word in words]
    step = _place(_spoken(steps, thinks), set(names), begun.strip())
    told: dict[str, float] = {}
    for text, log_prob in _told(step):
        told[bare(text)] = max(log_prob, told.get(bare(text), -math.inf))
    outside = sum(name not in told for name in names)
    bound = _bound(step) if outside else 0.0
    return [told.get(name, bound) for name in names], outside


def behind(steps: Sequence[Step], text: str, prompt_tokens: int | None) -> list[float]:
    """The log-probabilities of the last tokens of a prompt that was read back, which are those of `text`.

    Args:
        steps: of the prompt, and of one token that was written behind it.
        text: how the prompt ends.
        prompt_tokens: as the server counts them.

    Raises:
        JudgeError: when the server does not tell where its tokens stand, or how likely they are.
    """
    count = len(steps) - 1 if prompt_tokens is None else prompt_tokens
    places = [step.at for step in steps if step.at is not None]
    if not 0 < count <= len(steps) or len(places) < len(steps):
        raise JudgeError("the server does not tell where the tokens of the prompt stand, so that none can be counted")
    ends = [*places[1:], places[-1] + len(steps[-1].text)]  # special tokens may have a text and take no place
    border = ends[count - 1] - len(text)
    found = [step.log_prob for step, end in zip(steps[:count], ends[:count], strict=True) if end > border]
    if not found or None in found:
        raise JudgeError("the server does not tell how likely the tokens of the query are")
    return [number for number in found if number is not None]


def bare(text: str) -> str:
    """A token or a word without spaces and signs at its ends; signs alone stay."""
    return AROUND.sub("", text) or text.strip()


def behind_text(steps: Sequence[Step], text: str) -> Sequence[Step]:
    """The steps behind the first that completes a text; none where it was not written."""
    written = ""
    for index, step in enumerate(steps):
        written += step.text
        if text in written:
            return steps[index + 1 :]
    return ()


def _spoken(steps: Sequence[Step], thinks: bool) -> Sequence[Step]:
    """What comes behind a thought, where there is one."""
    text = ""
    start = len(steps) if thinks else 0
    for index, step in enumerate(steps):
        text += step.text
        if "</think>" in text:
            text, start = "", index + 1
    return steps[start:]


def _place(steps: Sequence[Step], names: set[str], begun: str) -> Step | None:
    written = ""
    for step in steps if begun else ():
        if written.strip() == begun:
            return step
        written += step.text
    return next((step for step in steps if bare(step.text) in names), steps[0] if steps else None)


def _told(step: Step | None) -> list[tuple[str, float]]:
    if step is None:
        return []
    return [*step.top, *([] if step.log_prob is None else [(step.text, step.log_prob)])]


def _bound(step: Step | None) -> float:
    """The most that a token may have that is not among those told."""
    told = dict(_told(step))
    if not told:  # the model ended at once: that was likelier than any token
        return math.log(0.5)
    left = 1.0 - sum(math.exp(log_prob) for log_prob in told.values())
    return min(min(told.values()), math.log(left) if left > 0 else math.inf)
