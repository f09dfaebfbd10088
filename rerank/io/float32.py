"""Scores as trec_eval compares them: in float32."""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["shortest", "strictly_falling", "to_float32"]

_FLOAT, _INT = struct.Struct("<f"), struct.Struct("<i")
_LARGEST = _FLOAT.unpack(b"\xff\xff\x7f\x7f")[0]
_SIGN = 0x7FFFFFFF


def to_float32(number: float) -> float:
    """The nearest float32.

    Raises:
        OverflowError: when it lies outside float32's range.
    """
    nearest: float = _FLOAT.unpack(_FLOAT.pack(number))[0]
    return nearest


def strictly_falling(scores: Sequence[float | None]) -> list[float]:
    """Float32 numbers that keep this order and have no ties.

    A score is rounded to float32 and lowered to the next one below its predecessor where it would tie. What has no
    score (None, at the end) goes down by 1 from its predecessor, or by one float32 where 1 is too little to tell; when
    nothing has one, from `len(scores)` down to 1. Beyond float32's range the steps are counted from its end.

    Args:
        scores: finite and non-increasing, then None.
    """
    steps: list[int] = []
    for score in scores:
        highest = steps[-1] - 1 if steps else _step(_LARGEST)
        wanted = score if score is not None else _number(steps[-1]) - 1.0 if steps else float(len(scores))
        steps.append(min(_step(wanted), highest))
    lowest = _step(-_LARGEST)
    count = len(steps)
    return [_number(max(step, lowest + count - 1 - index)) for index, step in enumerate(steps)]


def shortest(number: float) -> str:
    """The shortest text that trec_eval (which reads a double and rounds it) reads as this float32."""
    import numpy as np  # here, so that reading a run needs no numpy

    text = repr(float(str(np.float32(number))))  # numpy's digits in Python's spelling, which is never the longer one
    return text if to_float32(float(text)) == number else repr(number)


def _step(number: float) -> int:
    """A whole number for each float32, in their order: neighbours differ by 1, both zeros are 0."""
    within = min(max(number, -_LARGEST), _LARGEST)
    bits: int = _INT.unpack(_FLOAT.pack(within))[0]
    return bits if bits >= 0 else -(bits & _SIGN)


def _number(step: int) -> float:
    """The float32 that stands at a step."""
    number: float = _FLOAT.unpack(_INT.pack(abs(step)))[0]
    return number if step >= 0 else -number
