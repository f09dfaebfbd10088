"""Orders that language models wrote: RankGPT's files, and the words in which RankZephyr and others show passages.

RankGPT (Sun et al., 2023, https://github.com/sunnweiwei/RankGPT) publishes `marco-train-10k.jsonl` with query,
positive_passages and retrieved_passages, and a JSON list of answers such as "[2] > [1]", one for each line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rerank.errors import FileError
from rerank.prompts.prompt import identifiers
from rerank.prompts.reading import read_order
from training.examples.jsonl import titled
from training.examples.record import BadExample, Example
from training.examples.records import objects
from training.examples.stream import Note, Read

__all__ = ["ordered", "passages_of", "rankgpt", "searched"]

QUERY = re.compile(r"^Search Query: (.*?)\.?\s*\nRank the ", re.DOTALL | re.MULTILINE)
PASSAGE = re.compile(r"^\[(\d{1,3}|[A-Z])\] ?", re.MULTILINE)
REPAIRED = Note("orders of the teacher that were incomplete or double, completed in the order shown")


def rankgpt(path: str | Path, permutations: str | Path) -> Read:
    """Retrieved passages, in the order retrieved, with the teacher's order; relevance where a positive is among them.

    Args:
        path: the JSONL file.
        permutations: the JSON list; answers as texts, or lists of numbers from 1.

    Raises:
        FileError: when there are not as many answers as lines: they are of other queries.
    """
    answers = _answers(permutations)
    number = 0
    for number, (where, values) in enumerate(objects(path), start=1):
        if number > len(answers):
            continue  # counted to the end, for the error
        if isinstance(values, BadExample):
            yield values
        else:
            yield from _ranked(values, answers[number - 1], where)
    if number != len(answers):
        raise FileError(f"{permutations} holds {len(answers):,} permutations and {path} {number:,} lines; give its own")


def _ranked(values: dict[str, Any], answer: str, where: str) -> Read:
    try:
        passages = values["retrieved_passages"]
        documents = tuple(titled(passage) for passage in passages)
        doc_ids = tuple(str(passage["docid"]) for passage in passages)
        good = {str(passage["docid"]) for passage in values.get("positive_passages") or ()}
        query = values["query"]
    except (KeyError, TypeError, AttributeError) as error:
        yield BadExample("malformed line", f"{error}; it has {', '.join(map(repr, values))}", where)
        return
    relevance = tuple(float(doc_id in good) for doc_id in doc_ids) if good & set(doc_ids) else None
    known = {"query": query, "documents": documents, "doc_ids": doc_ids, "relevance": relevance}
    yield from ordered(answer, identifiers("numbers", len(documents)), where, **known)


def ordered(answer: str, names: Sequence[str], where: str, **known: Any) -> Read:
    """An example with the order that an answer names; one that had to be completed is counted.

    Args:
        answer: what the teacher wrote.
        names: what the documents are called, in the order shown.
        where: file and line.
        known: the other fields of the example.
    """
    groups, repairs = read_order(answer, names)
    if len([repair for repair in repairs if not repair[0].isdigit()]) or not names:
        yield BadExample("order is no permutation", f"{answer[:60]!r} of {len(names)} documents", where)
        return
    if repairs:
        yield REPAIRED
    try:
        yield Example(order=tuple(index for group in groups for index in group), where=where, **known)
    except BadExample as error:
        yield error


def _answers(path: str | Path) -> list[str]:
    """The answers as texts, whether they were written as texts or as lists of numbers."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise FileError(f"{path} is no JSON ({error}); a list of permutations is wanted") from error
    if not isinstance(values, list) or not all(isinstance(value, str | list) for value in values):
        raise FileError(f"{path} is no list of permutations such as '[2] > [1]'")
    return [value if isinstance(value, str) else " > ".join(f"[{one}]" for one in value) for value in values]


def searched(asked: str) -> tuple[str, str] | None:
    """The query of a prompt in RankZephyr's words, and what stands in front of it; None when it is none."""
    found = QUERY.search(asked)
    return None if found is None else (found[1], asked[: found.start()])


def passages_of(asked: str) -> tuple[bool, tuple[str, ...]]:
    """Passages follow each other as [1], [2] … or [A], [B] …; other brackets at a line's beginning are their texts."""
    borders = list(_borders(asked))
    ends = [start for start, _, _ in borders[1:]] + [len(asked)]
    texts = tuple(asked[begin:end].strip() for (_, begin, _), end in zip(borders, ends, strict=True))
    return bool(borders) and borders[0][2] == "A", texts


def _borders(asked: str) -> Iterator[tuple[int, int, str]]:
    """Where each passage's identifier begins and ends, and what it is."""
    number, letters = 0, False
    for found in PASSAGE.finditer(asked):
        if number == 0:
            letters = found[1].isalpha()
        if found[1] == (chr(ord("A") + number) if letters else str(number + 1)):
            number += 1
            yield found.start(), found.end(), found[1]
