"""Orders that language models wrote, as RankGPT and RankZephyr publish them.

- RankGPT (Sun et al., 2023, https://github.com/sunnweiwei/RankGPT): `marco-train-10k.jsonl` with query,
  positive_passages and retrieved_passages, and a JSON list of answers such as "[2] > [1]", one for each line;
- RankZephyr (Pradeep et al., 2023, https://huggingface.co/datasets/castorini/rank_zephyr_training_data) and FIRST, with
  letters in place of numbers: conversations of a system, a human and a gpt turn.
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
from training.examples.jsonl import objects, titled
from training.examples.record import BadExample, Example
from training.examples.stream import Note, Read

__all__ = ["rankgpt", "rankzephyr"]

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


def rankzephyr(path: str | Path) -> Read:
    """The passages of each conversation, in the order shown, with the order answered."""
    for where, values in objects(path):
        if isinstance(values, BadExample):
            yield values
            continue
        try:
            query, passages, letters, answer = _conversation(values, where)
        except BadExample as error:
            yield error
            continue
        names = identifiers("letters" if letters else "numbers", len(passages))
        yield from _ordered(answer, names, where, query=query, documents=passages, query_id=str(values.get("id", "")))


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
    yield from _ordered(answer, identifiers("numbers", len(documents)), where, **known)


def _ordered(answer: str, names: Sequence[str], where: str, **known: Any) -> Read:
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


def _conversation(values: dict[str, Any], where: str) -> tuple[str, tuple[str, ...], bool, str]:
    """Query, passages, whether letters name them, and the answer."""
    try:
        turns = {turn["from"]: turn["value"] for turn in values["conversations"]}
        asked, answer = turns["human"], turns["gpt"]
        found = QUERY.search(asked)
        query = found[1] if found else None
    except (KeyError, TypeError) as error:
        raise BadExample("malformed line", f"no conversation of a human and gpt ({error})", where) from error
    if query is None or found is None:
        raise BadExample("malformed line", "'Search Query: ….' is missing in what the human says", where)
    letters, passages = _passages(asked[: found.start()])
    return query, passages, letters, answer


def _passages(asked: str) -> tuple[bool, tuple[str, ...]]:
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
