"""The record that everything here is trained on: a query, its documents, and what is known about their order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rerank.errors import InputError

__all__ = ["LABELS", "BadExample", "Example", "Pair"]

Pair: TypeAlias = tuple[int, int, float]
"""(index of one document, index of another, P(the first wins)): what a pairwise teacher says."""

LABELS = ("relevance", "scores", "order", "pairs", "completion", "logits")
"""The kinds of labels that an example may carry; a loss says which of them it needs."""


class BadExample(InputError):
    """An example that cannot be trained on.

    Args:
        reason: of `REASONS`, so that equal faults can be counted.
        detail: what it was, with the values.
        where: the file and the line, "" when the example came from no file.
    """

    def __init__(self, reason: str, detail: str, where: str = "") -> None:
        super().__init__(f"{where}: {reason}: {detail}" if where else f"{reason}: {detail}")
        self.reason, self.detail, self.where = reason, detail, where


REASONS = (
    "malformed line",
    "empty query",
    "no document",
    "no relevant document",
    "empty document",
    "document twice",
    "positive among the negatives",
    "relevance is no number",
    "teacher score is no number",
    "order is no permutation",
    "empty completion",
    "answer without a verdict",
    "completion too long",
    "pair of no two documents",
    "other number of labels",
    "too many documents",
    "labels of the wrong kind",
    "unknown query",
    "unknown document",
    "query comes again",
    "positive without a score",
    "positive ranked too low",
    "too few negatives",
    "query too short or too long",
    "query copied from its document",
)
"""Why an example may be refused."""


@dataclass(frozen=True, slots=True)
class Example:
    """A query, documents, and labels of any kind; unlabelled when it has none.

    Args:
        query: its words; never empty.
        documents: their texts (a title is joined in front), at least one, none of them empty. Their order says
            nothing, unless a reader says that it does.
        relevance: a grade for each document, above 0 for relevant ones.
        scores: the teacher's, one for each document, on any scale; higher is better.
        order: the teacher's: indices of all documents, best first.
        pairs: the teacher's: (index, index, P(the first wins)), as many as were asked.
        completion: what the teacher wrote when it was asked about these documents in this order: its thought, from
            `<think>` on, and its answer.
        logits: the teacher's of two words for each document, the better word first: ("true", "false").
        query_id, doc_ids: where they are known.
        where: the file and the line it was read from; two examples that differ in it alone are equal.

    Raises:
        BadExample: when something is empty or double, a label is no number or there are not as many as documents, or a
            document is relevant and irrelevant at once.
    """

    query: str
    documents: tuple[str, ...]
    relevance: tuple[float, ...] | None = None
    scores: tuple[float, ...] | None = None
    order: tuple[int, ...] | None = None
    pairs: tuple[Pair, ...] | None = None
    query_id: str = ""
    doc_ids: tuple[str, ...] | None = None
    where: str = field(default="", compare=False)
    completion: str | None = None
    logits: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        _check_texts(self)
        for name in ("documents", "order", "doc_ids"):
            _as_tuple(self, name)
        _numbers(self, "relevance", "relevance is no number")
        _numbers(self, "scores", "teacher score is no number")
        _check_documents(self)
        if self.completion is not None and not (isinstance(self.completion, str) and self.completion.strip()):
            raise BadExample("empty completion", f"query {self.query[:40]!r} has one without words", self.where)
        if self.order is not None and sorted(self.order) != list(range(len(self.documents))):
            raise BadExample("order is no permutation", f"{self.order} of {len(self)} documents", self.where)
        _check_pairs(self)
        _check_logits(self)

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def labels(self) -> frozenset[str]:
        """The kinds of labels that it carries, of `LABELS`."""
        return frozenset(name for name in LABELS if getattr(self, name) is not None)


def _as_tuple(example: Example, name: str) -> None:
    value = getattr(example, name)
    if value is not None and type(value) is not tuple:
        object.__setattr__(example, name, tuple(value))


def _check_texts(example: Example) -> None:
    where = example.where
    if not isinstance(example.query, str) or isinstance(example.documents, str):
        raise BadExample("malformed line", "the query is a text, the documents are several", where)
    if not example.query.strip():
        raise BadExample("empty query", f"query {example.query_id!r} has no text", where)
    if not example.documents:
        raise BadExample("no document", f"query {example.query[:40]!r} has none", where)
    for index, text in enumerate(example.documents):
        if not isinstance(text, str) or not text.strip():
            raise BadExample("empty document", f"document {index} of query {example.query[:40]!r} has no text", where)


def _numbers(example: Example, name: str, reason: str) -> None:
    """Labels as a tuple of Python's floats, all of them finite, one for each document."""
    values: Sequence[Any] | None = getattr(example, name)
    if values is None:
        return
    if len(values) != len(example.documents):
        raise BadExample(
            "other number of labels", f"{len(values)} in {name} for {len(example.documents)} documents", example.where
        )
    numbers = tuple(_number(value) for value in values)
    for index, number in enumerate(numbers):
        if not math.isfinite(number):
            raise BadExample(reason, f"{values[index]!r} at document {index}", example.where)
    object.__setattr__(example, name, numbers)


def _number(value: Any) -> float:
    """The float, or nan, which is refused."""
    try:
        return math.nan if value is None or isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _check_documents(example: Example) -> None:
    """Documents occur once, by id where there are ids, else by text; a text is not relevant and irrelevant at once."""
    ids = example.doc_ids
    if ids is not None and len(ids) != len(example.documents):
        raise BadExample("other number of labels", f"{len(ids)} ids, {len(example.documents)} documents", example.where)
    names = ids if ids is not None else example.documents
    if len(set(names)) == len(names) == len(set(example.documents)):
        return
    if example.relevance is not None:
        _check_sides(example, names)
        _check_sides(example, example.documents)
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise BadExample("document twice", f"{twice[:60]!r} under query {example.query[:40]!r}", example.where)


def _check_sides(example: Example, names: tuple[str, ...]) -> None:
    assert example.relevance is not None
    relevant = {name for name, relevance in zip(names, example.relevance, strict=True) if relevance > 0}
    both = [name for name, grade in zip(names, example.relevance, strict=True) if grade <= 0 and name in relevant]
    if both:
        detail = f"{both[0][:60]!r} is relevant and irrelevant for query {example.query[:40]!r}"
        raise BadExample("positive among the negatives", detail, example.where)


def _check_pairs(example: Example) -> None:
    if example.pairs is None:
        return
    pairs = tuple((int(first), int(second), _number(wins)) for first, second, wins in example.pairs)
    for first, second, wins in pairs:
        if first == second or not (0 <= first < len(example) and 0 <= second < len(example)) or not 0 <= wins <= 1:
            detail = f"({first}, {second}, {wins}) of {len(example)} documents; the last is a probability"
            raise BadExample("pair of no two documents", detail, example.where)
    object.__setattr__(example, "pairs", pairs)


def _check_logits(example: Example) -> None:
    """Two finite numbers for each document, as a tuple of pairs."""
    if example.logits is None:
        return
    if len(example.logits) != len(example):
        detail = f"{len(example.logits)} pairs of logits for {len(example)} documents"
        raise BadExample("other number of labels", detail, example.where)
    rows = tuple(tuple(map(_number, row)) for row in example.logits)
    for index, row in enumerate(rows):
        if len(row) != 2 or not all(map(math.isfinite, row)):
            detail = f"{list(example.logits[index])} at document {index}; the logits of two words are wanted"
            raise BadExample("teacher score is no number", detail, example.where)
    object.__setattr__(example, "logits", rows)
