"""Rewards of answers that grade one document: TFRank, InteRank."""

from __future__ import annotations

import re

from rerank.prompts.grading import read_grade
from training.rewards.reward import Shown

__all__ = ["form", "interank", "tfrank"]

THOUGHT = re.compile(r"<think>\n(.*?)\n</think>\n\n(.+)", re.DOTALL)
VERDICT = re.compile(r"(yes|no)\s*\(\s*(\d+(?:\.\d+)?)\s*\)", re.IGNORECASE)
HIGHEST = 4.0
RELEVANT = 2.0
"""From this grade on TFRank's prompt calls a document relevant."""

SHORTEST, LONGEST = 256, 4096
"""Characters of a thought, where there is one."""


def tfrank(text: str, shown: Shown) -> float:
    """Half for the verdict, half for the grade of "yes(3)" (https://github.com/JOHNNY-fans/TFRank).

    The verdict is worth 1 when it is that of the true grade ("yes" from 2 on), else 0. The grade is worth 1 - |grade -
    true grade| / 4, and nothing when it contradicts the verdict, or lies on the other side of 2 than the true one. An
    answer of another form is worth 0.
    """
    found = VERDICT.fullmatch(_answer(text))
    if found is None:
        return 0.0
    verdict, grade, true = found[1].lower() == "yes", float(found[2]), shown.relevance[0]
    right = verdict == (true >= RELEVANT)
    sided = (grade >= RELEVANT) == (true >= RELEVANT) == verdict
    near = max(0.0, 1.0 - abs(grade - true) / HIGHEST) if sided else 0.0
    return (float(right) + near) / 2


def form(text: str, shown: Shown) -> float:
    """1 when an answer stands behind the thought, which is empty or 256 to 4,096 characters long; else 0."""
    found = THOUGHT.search(text)
    thought = "" if found is None else found[1].strip()
    return float(bool(_answer(text)) and (not thought or SHORTEST <= len(thought) <= LONGEST))


def interank(text: str, shown: Shown) -> float:
    """-|grade - the teacher's score| (InteRank, https://arxiv.org/abs/2504.03947).

    The grade is read as the judge reads it (`rerank.prompts.grading.read_grade`); an answer without one is as far off
    as the scale is wide.
    """
    scale, scores = shown.prompt.scale, shown.example.scores or ()
    grade, repairs = read_grade(text, scale)
    nothing = any(repair.startswith("no grade") for repair in repairs)
    return -(scale[1] - scale[0]) if nothing else -abs(grade - scores[0])


def _answer(text: str) -> str:
    found = THOUGHT.search(text)
    return "" if found is None else found[2].strip()
