"""Rewards of answers that name one document: Rank-R1, IRanker."""

from __future__ import annotations

from rerank.prompts.reading import exact_answer, read_choice, read_exact_choice
from training.rewards.reward import Shown

__all__ = ["exclusion", "form", "rank_r1"]


def rank_r1(text: str, shown: Shown) -> float:
    """1 when the answer has Rank-R1's form and names the gold document, else 0 (https://arxiv.org/abs/2503.06034).

    The form is read as the judge reads it (`rerank.prompts.reading.read_exact_choice`): in lower case, and the label
    with its brackets must be all that stands between `<answer>` and `</answer>`. Gold is the highest grade there is;
    several documents may have it.
    """
    choice, _ = read_exact_choice(text, shown.names)
    return float(choice is not None and shown.relevance[choice] == max(shown.relevance))


def exclusion(text: str, shown: Shown) -> float:
    """1 when the passage that is put out is irrelevant, else 0 (IRanker, https://arxiv.org/abs/2506.21638).

    Read as the judge reads it: the first passage that is named behind the thought.
    """
    choice, _ = read_choice(text, shown.names)
    return float(choice is not None and shown.relevance[choice] <= 0)


def form(text: str, shown: Shown) -> float:
    """1 when a thought and an answer stand in their tags and the answer names one passage that there is, else 0."""
    answer = exact_answer(text)
    if answer is None:
        return 0.0
    choice, repairs = read_choice(answer, shown.names)
    return float(choice is not None and not repairs)
