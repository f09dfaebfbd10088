"""Fields of JSON objects, checked; every error names path, line and field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rerank.errors import FileError

__all__ = ["identifier", "optional_text", "score_of", "text_of"]


def identifier(values: Mapping[str, Any], key: str, where: str) -> str:
    """An id: a text that is not empty, or a whole number, which becomes its digits.

    Raises:
        FileError: when it is missing, empty or something else.
    """
    value = values.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value:
        return value
    raise FileError(f"{where}: {_wrong(values, key)}; an id, which is a text or a whole number, is wanted")


def text_of(values: Mapping[str, Any], key: str, where: str) -> str:
    """A text, which may be empty.

    Raises:
        FileError: when it is missing or no text.
    """
    value = values.get(key)
    if not isinstance(value, str):
        raise FileError(f"{where}: {_wrong(values, key)}; a text is wanted")
    return value


def optional_text(values: Mapping[str, Any], key: str, where: str) -> str:
    """A text; "" when it is missing or null."""
    return "" if values.get(key) is None else text_of(values, key, where)


def score_of(values: Mapping[str, Any], where: str) -> float | None:
    """The number under `score`; None when it is missing or null."""
    value = values.get("score")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FileError(f"{where}: {_wrong(values, 'score')}; a number is wanted")
    try:
        return float(value)
    except OverflowError as error:
        raise FileError(f"{where}: the score {value} is too large for a float") from error


def _wrong(values: Mapping[str, Any], key: str) -> str:
    return f"{key!r} is {values[key]!r}" if key in values else f"{key!r} is missing"
