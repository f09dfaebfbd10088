"""The log: one JSON object a line on standard error, without a word of what was asked."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

__all__ = ["LOGGER", "configure", "event"]

LOGGER = logging.getLogger("rerank.serve")


class Json(logging.Formatter):
    """A record as a JSON object.

    Args:
        text: write messages of exceptions too, which may hold texts.
    """

    def __init__(self, *, text: bool = False) -> None:
        super().__init__()
        self.text = text

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, event and whatever else was said."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.name != LOGGER.name:
            said["logger"] = record.name
        if record.exc_info and record.exc_info[1] is not None:
            said["trace"] = self._trace(record.exc_info[1])
        return json.dumps(said, default=str)

    def _trace(self, error: BaseException) -> list[str]:
        """Where it came from; what it says, only where texts may be written."""
        if self.text:
            return traceback.format_exception(error)
        frames = traceback.extract_tb(error.__traceback__)
        return [type(error).__name__, *(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)]


def configure(level: str, *, text: bool = False) -> None:
    """Have everything this process logs written so."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json(text=text))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("rerank", "retrievers", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in ("rerank", "uvicorn.error"):
        logging.getLogger(name).setLevel(level.upper())


def event(name: str, level: int = logging.INFO, error: BaseException | None = None, **fields: Any) -> None:
    """Write a line.

    Args:
        name: what happened.
        level: of `logging`.
        error: its trace is written.
        fields: what else is known.
    """
    LOGGER.log(level, name, extra={"fields": fields}, exc_info=error)
