"""Everything this library raises on purpose, as one tree.

RerankError
├── InputError            what was given is wrong: the message carries the value and the way out
│   ├── UnknownName       no such reranker, checkpoint, dataset, option …; did you mean …?
│   ├── FileError         a file is missing, malformed or cannot be written; names the path and the line
│   └── ConfigError       a TOML file or a set of options does not hold together
├── MissingExtra          the feature needs packages that are not installed; names the extra
├── CheckpointError       a checkpoint cannot be found, fetched, trusted or read as a reranker
├── JudgeError            a judge could not answer a question; names the question
│   └── Transient         it may answer when it is asked again: a busy server, a lost connection
└── DeadlineExceeded      a plan was not finished in time

The command line prints any of them in one line and exits with 2; every other exception is a bug and keeps its
traceback.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DeadlineExceeded",
    "FileError",
    "InputError",
    "JudgeError",
    "MissingExtra",
    "RerankError",
    "Transient",
    "UnknownName",
]


class RerankError(Exception):
    """The root: catch this to catch everything the library raises on purpose."""


class InputError(RerankError, ValueError):
    """What was given is wrong."""


class UnknownName(InputError, LookupError):
    """A name that nothing is registered under."""


class FileError(InputError):
    """A file is missing, malformed or cannot be written."""


class ConfigError(InputError):
    """A configuration does not hold together."""


class MissingExtra(RerankError, ImportError):
    """A feature needs packages that are not installed."""


class CheckpointError(RerankError):
    """A checkpoint cannot be found, fetched, trusted or read as a reranker."""


class JudgeError(RerankError):
    """A judge could not answer a question."""


class Transient(JudgeError):
    """A judge raises it, or gives it in an answer's place, when the same question may be answered a little later.

    The scheduler waits and asks again, a limited number of times (`rerank.engine.scheduling.retries.Retry`).

    Args:
        message: what happened.
        retry_after: seconds for which the judge wants to be asked nothing at all, as HTTP's Retry-After says; None
            when it did not say.
    """

    def __init__(self, message: str = "the judge cannot answer now", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(RerankError, TimeoutError):
    """A plan was not finished before its deadline."""
