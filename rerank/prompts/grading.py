"""Reading grades that a model wrote: one behind its explanation, or one for each document of a group as JSON.

What is wrong is repaired by stated rules, and told, as in `rerank.prompts.reading`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from rerank.prompts.reading import plain_name, why_nothing
from rerank.prompts.speech import said

__all__ = ["read_grade", "read_grades"]

LABELLED = re.compile(r"\b(?:label|score|grade|rating)\b[\s:=*\"'(]*(-?\d+(?:\.\d+)?)", re.IGNORECASE)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w%]|\.\d)")
OBJECT = re.compile(r"\{[^{}]*\}?")
PAIR = re.compile(r"\[?(\w{1,4})\]*[\"']?\s*:\s*[\"']?(-?\d+(?:\.\d+)?)")


def read_grade(text: str, scale: Sequence[float]) -> tuple[float, tuple[str, ...]]:
    """The grade that an explanation ends with: "… Relevance Label: 2".

    The last number behind "label", "score", "grade" or "rating" is taken; where there is none the last number on the
    scale that stands by itself, which is told. A labelled grade off the scale becomes its nearer end, which is told; an
    answer without a grade becomes the lowest, which is told too.

    Args:
        text: what the model wrote.
        scale: the lowest and the highest grade.
    """
    spoken = said(text)
    if labelled := LABELLED.findall(spoken):
        grade, off = _on(scale, float(labelled[-1]))
        return grade, ("a grade off the scale",) if off else ()
    numbers = [float(number) for number in NUMBER.findall(spoken)]
    if on_scale := [number for number in numbers if scale[0] <= number <= scale[1]]:
        repairs = () if len(spoken.split()) == 1 else ("no label, the last number taken",)
        return on_scale[-1], repairs
    return float(scale[0]), (f"no grade: {why_nothing(text)}",)


def read_grades(text: str, names: Sequence[str], scale: Sequence[float]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """The grades of a group, as the JSON object `{"[1]": 5, "[2]": 3}`.

    The last object is read; where it is no JSON, everything in it that looks like a name and a number, which is told. A
    document graded twice has its last grade. One that is not graded has the lowest, one off the scale the nearer end,
    and what nothing is called by is left out: all of this is told.

    Args:
        text: what the model wrote.
        names: the identifiers, in the order shown.
        scale: the lowest and the highest grade.
    """
    written, repairs = _pairs(said(text))
    grades: dict[str, float] = {}
    unknown = off = 0
    for name, number in written:
        known = _name(name)
        if known not in names:
            unknown += 1
            continue
        grades[known], outside = _on(scale, number)
        off += outside
    missing = len(names) - len(grades)
    counted = ((off, "off the scale"), (unknown, "not there"), (missing, "not graded"))
    repairs += [f"{count} {what}" for count, what in counted if count]
    if names and not grades:
        repairs.insert(0, why_nothing(text))
    return tuple(grades.get(name, float(scale[0])) for name in names), tuple(repairs)


def _pairs(spoken: str) -> tuple[list[tuple[str, float]], list[str]]:
    """Names and grades; and that they were no JSON."""
    objects = OBJECT.findall(spoken)
    try:
        found = json.loads(objects[-1]) if objects else None
        if found is not None:
            return [(str(name), _number(grade)) for name, grade in found.items()], []
    except (ValueError, TypeError, RecursionError):
        pass
    pairs = [(name, float(grade)) for name, grade in PAIR.findall(objects[-1] if objects else spoken)]
    return pairs, ["no valid JSON"] if pairs else []


def _number(grade: Any) -> float:
    """A grade of a JSON object, which may be a text.

    Raises:
        ValueError, TypeError: when it is no number.
    """
    number = float(grade)
    if number != number or isinstance(grade, bool):
        raise ValueError(f"{grade!r} is no grade")
    return number


def _on(scale: Sequence[float], grade: float) -> tuple[float, bool]:
    """A grade as the scale has it, and whether it was off it."""
    nearer = float(min(max(grade, scale[0]), scale[1]))
    return nearer, nearer != grade


def _name(written: str) -> str:
    """An identifier without its brackets, leading zeros and case."""
    return plain_name(written.strip().strip("[]").strip())
