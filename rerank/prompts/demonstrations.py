"""Demonstrations: solved examples that a prompt shows before its question. A JSONL file, one a line:

    {"query": "how many people live in Berlin", "better": "Berlin has 3.5 million.", "worse": "Berlin is old."}

`worse` may be missing where prompts show better documents alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rerank.errors import FileError, InputError
from rerank.io.fields import optional_text, text_of
from rerank.io.lines import json_lines
from rerank.prompts.prompt import Prompt
from rerank.types import Ranking

__all__ = ["Demonstration", "fingerprint", "from_qrels", "read", "rendered"]


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A query, a document that answers it, and one that does so less."""

    query: str
    better: str
    worse: str = ""


def read(path: str | Path) -> tuple[Demonstration, ...]:
    """The demonstrations of a file.

    Raises:
        FileError: when it cannot be read, or a line is no demonstration.
    """
    found = []
    for number, values in json_lines(path):
        where = f"{path}:{number}"
        query, better = text_of(values, "query", where), text_of(values, "better", where)
        if not query.strip() or not better.strip():
            raise FileError(f"{where}: 'query' and 'better' must say something")
        found.append(Demonstration(query, better, optional_text(values, "worse", where)))
    return tuple(found)


def from_qrels(
    rankings: Iterable[Ranking], qrels: Mapping[str, Mapping[str, int]], *, relevant: int = 1
) -> tuple[Demonstration, ...]:
    """Demonstrations out of judgments: for each query its best judged candidate, and its first that is not relevant.

    Args:
        rankings: of training queries, as a first stage gave them; the first irrelevant candidate is a hard one.
        qrels: their judgments.
        relevant: the least relevance of a better document.

    Queries without both are left out.
    """
    found = []
    for ranking in rankings:
        judged = qrels.get(ranking.query.query_id, {})
        grades = [(judged.get(document.doc_id, 0), document) for document in ranking.documents]
        best = max(grades, key=lambda graded: graded[0], default=(0, None))
        worse = next((document for grade, document in grades if grade < min(relevant, best[0])), None)
        if best[1] is not None and best[0] >= relevant and worse is not None:
            found.append(Demonstration(ranking.query.text, best[1].full_text, worse.full_text))
    return tuple(found)


def fingerprint(demonstrations: Sequence[Demonstration]) -> str:
    """A hash of what they say, in their order."""
    said = "\x1e".join("\x1f".join((each.query, each.better, each.worse)) for each in demonstrations)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def rendered(prompt: Prompt, demonstrations: Sequence[Demonstration], *, mirrored: bool = False) -> str:
    """Demonstrations as a prompt shows them, one behind the other.

    Answers take turns, so that none is preferred: of comparisons the better document stands first in the first
    demonstration and second in the next, of grades the first shows a better document and the next a worse one.

    Args:
        prompt: with a demonstration, and targets where its answers are words.
        demonstrations: in the order shown.
        mirrored: show each comparison twice, the second time with both documents in each other's place
            (LLM-RankFusion; Zeng et al., 2024, https://arxiv.org/abs/2406.00231).

    Raises:
        InputError: when one lacks a worse document that must be shown.
    """
    sides = (0, 1) if mirrored else (None,)
    shown = [(each, index % 2 if side is None else side) for index, each in enumerate(demonstrations) for side in sides]
    return "".join(_one(prompt, each, turned=bool(turned)) for each, turned in shown)


def _one(prompt: Prompt, shown: Demonstration, *, turned: bool) -> str:
    better, worse = prompt.shortened(shown.better), prompt.shortened(shown.worse)
    answer = prompt.targets[-1 if turned else 0] if prompt.targets else ""
    if prompt.asks == "grade" and not prompt.targets:  # the query is what continues it: there is no worse answer
        return prompt.demonstrated(query=shown.query, document=better)
    if (turned or prompt.asks == "compare") and not worse:
        raise InputError(f"the demonstration of {shown.query!r} has no 'worse' document, which {prompt.name!r} shows")
    if prompt.asks == "grade":
        return prompt.demonstrated(query=shown.query, document=worse if turned else better, answer=answer)
    first, second = (worse, better) if turned else (better, worse)
    return prompt.demonstrated(query=shown.query, first=first, second=second, answer=answer)
