"""Tab-separated files of MS MARCO and of those who distil on it: one example a line.

- `triples.train.small.tsv`: query, relevant text, irrelevant text;
- `qidpidtriples.train.full.2.tsv`: the same by ids;
- MarginMSE's `bert_cat_ensemble_msmarcopassage_train_scores_ids.tsv` (Hofstätter et al., 2020,
  https://arxiv.org/abs/2010.02666): score of the relevant, score of the irrelevant, query id, their ids;
- InRanker's `InRanker_msmarco.tsv` (Laitz et al., 2024, https://arxiv.org/abs/2401.06910): a teacher's logits of "true"
  and "false", query id, document id.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rerank.errors import FileError
from rerank.io.lines import decoded, lines, shown
from training.examples.joined import Named
from training.examples.record import BadExample, Example
from training.examples.stream import Read

__all__ = ["id_triples", "logits", "margins", "triples"]


def triples(path: str | Path) -> Read:
    """Query, relevant and irrelevant text; relevance (1, 0)."""
    for where, fields in _rows(path, 3):
        if isinstance(fields, BadExample):
            yield fields
            continue
        try:
            yield Example(fields[0], (fields[1], fields[2]), relevance=(1.0, 0.0), where=where)
        except BadExample as error:
            yield error


def id_triples(path: str | Path) -> Iterator[Named | BadExample]:
    """The same by ids: query, relevant and irrelevant document."""
    for where, fields in _rows(path, 3):
        yield fields if isinstance(fields, BadExample) else Named(where, fields[0], (fields[1], fields[2]), (1.0, 0.0))


def margins(path: str | Path) -> Iterator[Named | BadExample]:
    """The teacher's two scores and three ids; relevance (1, 0) too, because the triples were MS MARCO's."""
    for where, fields in _rows(path, 5):
        if isinstance(fields, BadExample):
            yield fields
            continue
        two = _two_numbers(fields, where)
        yield two if isinstance(two, BadExample) else Named(where, fields[2], (fields[3], fields[4]), (1.0, 0.0), two)


def logits(path: str | Path) -> Iterator[Named | BadExample]:
    """The teacher's two logits, that of "true" first, and two ids."""
    for where, fields in _rows(path, 4):
        if isinstance(fields, BadExample):
            yield fields
            continue
        two = _two_numbers(fields, where)
        yield two if isinstance(two, BadExample) else Named(where, fields[2], (fields[3],), logits=(two,))


def _two_numbers(fields: list[str], where: str) -> tuple[float, float] | BadExample:
    try:
        return float(fields[0]), float(fields[1])
    except ValueError:
        return BadExample("teacher score is no number", f"{fields[0]!r} and {fields[1]!r}", where)


def _rows(path: str | Path, columns: int) -> Iterator[tuple[str, list[str] | BadExample]]:
    """`path:line` and the columns, or why they are none."""
    for number, line in lines(path):
        where = f"{path}:{number}"
        try:
            fields = decoded(line, where).split("\t")
        except FileError:
            yield where, BadExample("malformed line", f"no UTF-8: {shown(line)}", where)
            continue
        if len(fields) != columns:
            detail = f"{len(fields)} columns where {columns} are wanted: {shown(line)}"
            yield where, BadExample("malformed line", detail, where)
        else:
            yield where, fields
