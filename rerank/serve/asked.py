"""What every dialect's request becomes, and what is made into every dialect's response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Answered", "Asked", "Hit", "Refused"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whatever its dialect.

    Args:
        query: its text.
        texts: of the documents; the index of one is its place here.
        model: its name, or None for the first.
        instruction: for the models that read one.
        top: how many of the best are returned; None returns all.
        raw: return what was measured, not what lies in [0, 1].
        truncate: cut what is longer than the model reads; False refuses it.
        keep_end: cut documents at their beginning.
        max_tokens_per_doc, max_tokens_per_query: the most tokens of each; what is beyond is not read.
        long_documents, window_tokens, stride_tokens: as of `rerank.Reranker`; None as the server was told.
    """

    query: str
    texts: tuple[str, ...]
    model: str | None = None
    instruction: str = ""
    top: int | None = None
    raw: bool = False
    truncate: bool = True
    keep_end: bool = False
    max_tokens_per_doc: int | None = None
    max_tokens_per_query: int | None = None
    long_documents: str | None = None
    window_tokens: int | None = None
    stride_tokens: int | None = None

    @property
    def size(self) -> int:
        """Bytes of its texts."""
        return len(self.query.encode("utf-8", "replace")) + sum(
            len(text.encode("utf-8", "replace")) for text in self.texts
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """A document of the response.

    Args:
        index: which it was.
        score: in [0, 1], unless what was measured was asked for.
        passage: the window of it that scored best, if there are any.
        measured: what the method measured; None where it measured an order alone.
    """

    index: int
    score: float
    passage: str | None = None
    measured: float | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What a request got.

    Args:
        request_id: of the request, in the response and in the log.
        model: the name of the model that answered.
        hits: best first.
        tokens: that the model computed, or took over from an earlier computation, for it.
        cost: the request's account in the ledger.
        warnings: what a reader of the scores must know.
    """

    request_id: str
    model: str
    hits: tuple[Hit, ...]
    tokens: int
    cost: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Refused(Exception):
    """No answer: the status, why, and when to come again.

    Args:
        status: HTTP's.
        message: one line.
        retry_after: seconds.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after
