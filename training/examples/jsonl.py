"""JSONL of other training tools, and our own: one example a line, with its texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rerank.errors import InputError
from rerank.io.atomic import atomic_write, json_line
from rerank.registry import did_you_mean
from training.examples.arrow import example_of, row_of
from training.examples.record import BadExample, Example
from training.examples.records import records
from training.examples.stream import Note, Read

__all__ = ["flagembedding", "inranker", "own", "sentence_transformers", "tevatron", "write_jsonl"]

TARGETS = ("label", "labels", "score", "scores")
"""Columns that sentence-transformers takes for what shall be learnt; all others are texts, in their order."""


def own(path: str | Path) -> Read:
    """Lines that `write_jsonl` wrote: the fields of `Example` by their names, those that are null left out."""
    return _examples(path, _own)


def _own(values: dict[str, Any], where: str) -> Example:
    known = [one.name for one in fields(Example)]
    if unknown := [name for name in values if name not in known]:
        raise BadExample("malformed line", f"no field is called {unknown[0]!r}{did_you_mean(unknown[0], known)}", where)
    if missing := [name for name in ("query", "documents") if name not in values]:
        raise BadExample("malformed line", f"{missing[0]!r} is missing; it has {', '.join(map(repr, values))}", where)
    return example_of({"where": where, **values})


def write_jsonl(examples: Iterable[Example], path: str | Path) -> int:
    """Write examples for people and other programs; whole or not at all. Gives how many.

    Raises:
        InputError: when there is no example.
        FileError: when the file cannot be written.
    """
    written = 0
    with atomic_write(path) as file:
        for example in examples:
            row = row_of(example)
            file.write(json_line({name: value for name, value in row.items() if value not in (None, "")}))
            written += 1
        if not written:
            raise InputError("there is no example to write")
    return written


def tevatron(path: str | Path) -> Read:
    """tevatron's: query, positive_passages and negative_passages, each with docid, title and text."""
    return _examples(path, _tevatron)


def flagembedding(path: str | Path) -> Read:
    """FlagEmbedding's: query, pos and neg, and a teacher's pos_scores and neg_scores where both are there."""
    return _examples(path, _flagembedding, unused="prompt")


def inranker(path: str | Path) -> Read:
    """InRanker's soft labels: query, contents, true_logit and false_logit, one document a line.

    https://github.com/unicamp-dl/InRanker/blob/main/docs/training.md
    """
    return _examples(path, _inranker)


def sentence_transformers(path: str | Path) -> Read:
    """sentence-transformers' columns, whose order says what they are; see docs/training-data.md for the cases."""
    return _examples(path, _sentence_transformers)


def _examples(path: str | Path, made: Callable[[dict[str, Any], str], Example], unused: str = "") -> Read:
    for where, values in records(path):
        if isinstance(values, BadExample):
            yield values
            continue
        if values.get(unused):
            yield Note(f"lines with a {unused!r}, which is not used")
        try:
            yield made(values, where)
        except BadExample as error:
            yield error
        except (KeyError, TypeError, AttributeError) as error:
            said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            yield BadExample("malformed line", f"{said}; it has {', '.join(map(repr, values))}", where)


def _tevatron(values: dict[str, Any], where: str) -> Example:
    good, bad = values["positive_passages"], values["negative_passages"]
    if not good:
        raise BadExample("no relevant document", f"under query {values['query'][:40]!r}", where)
    passages = [*good, *bad]
    return Example(
        values["query"],
        tuple(titled(passage) for passage in passages),
        relevance=(1.0,) * len(good) + (0.0,) * len(bad),
        query_id=str(values.get("query_id", "")),
        doc_ids=tuple(str(passage["docid"]) for passage in passages),
        where=where,
    )


def titled(passage: Mapping[str, Any]) -> str:
    """Title and text; MS MARCO's passages have "-" for a title in tevatron's files."""
    title = passage.get("title") or ""
    return f"{title} {passage['text']}".strip() if title.strip() not in ("", "-") else str(passage["text"])


def _flagembedding(values: dict[str, Any], where: str) -> Example:
    good, bad = values["pos"], values["neg"]
    if isinstance(good, str) or isinstance(bad, str):
        raise BadExample("malformed line", "'pos' and 'neg' are lists of texts", where)
    if not good:
        raise BadExample("no relevant document", f"under query {values['query'][:40]!r}", where)
    scored = [values[name] for name in ("pos_scores", "neg_scores") if values.get(name) is not None]
    if len(scored) == 1:
        raise BadExample("other number of labels", "'pos_scores' or 'neg_scores' stands alone", where)
    relevance = (1.0,) * len(good) + (0.0,) * len(bad)
    scores = tuple(score for side in scored for score in side) if scored else None
    return Example(values["query"], (*good, *bad), relevance=relevance, scores=scores, where=where)


def _inranker(values: dict[str, Any], where: str) -> Example:
    logits = (values["true_logit"], values["false_logit"])
    return Example(values["query"], (values["contents"],), logits=(logits,), where=where)


def _sentence_transformers(values: dict[str, Any], where: str) -> Example:
    query_id = str(values.pop("query_id", ""))
    targets = [name for name in values if name in TARGETS]
    texts = [value for name, value in values.items() if name not in TARGETS]
    if len(targets) > 1 or len(texts) < 2:
        raise BadExample("malformed line", f"a query, documents and at most one target, not {list(values)}", where)
    query, *columns = texts
    listed = any(isinstance(column, list) for column in columns)
    groups = [column if isinstance(column, list) else [column] for column in columns]
    documents = tuple(text for group in groups for text in group)
    # the first column behind the query holds what is relevant, the others what is not
    implied = tuple(float(number == 0) for number, group in enumerate(groups) for _ in group)
    target = (targets[0], values[targets[0]]) if targets else None
    relevance, scores = _meant(target, implied, several=not listed or len(columns) > 1, where=where)
    return Example(query, documents, relevance=relevance, scores=scores, query_id=query_id, where=where)


Numbers = tuple[float, ...] | None


def _meant(
    target: tuple[str, Any] | None, implied: tuple[float, ...], *, several: bool, where: str
) -> tuple[Numbers, Numbers]:
    """Relevance and the teacher's scores, as sentence-transformers' losses read the column."""
    if target is None:
        return (implied if several else None), None
    name, value = target
    taught = name.startswith("score")
    numbers: Sequence[Any] = value if isinstance(value, list) else [value]
    if len(implied) == 1 or not several:  # a labelled pair, or a list with its labels
        return (None, tuple(numbers)) if taught else (tuple(numbers), None)
    if len(numbers) == len(implied):
        return implied, tuple(numbers)
    if len(numbers) == len(implied) - 1:  # margins between the first and each of the others
        return implied, (0.0, *(-_margin(number, where) for number in numbers))
    raise BadExample("other number of labels", f"{len(numbers)} in {name} for {len(implied)} documents", where)


def _margin(number: Any, where: str) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise BadExample("teacher score is no number", f"{number!r}", where)
    return float(number)
