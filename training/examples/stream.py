"""Examples as they are read: one at a time, the bad ones counted and left out, or the first of them an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from rerank.errors import FileError, InputError
from training.examples.record import LABELS, BadExample, Example

__all__ = ["Counts", "Examples", "Note", "Read"]


@dataclass(frozen=True, slots=True)
class Note:
    """Something else that a reader has to tell: what, and how many."""

    what: str
    count: int = 1


Read: TypeAlias = Iterator[Example | BadExample | Note]
"""What a reader yields: an example, or why there is none in its place, or something to be counted beside them."""

SHOWN = 3
"""Places that are kept of each reason."""


@dataclass
class Counts:
    """What was read, and what was refused and why.

    Args:
        kept: examples that were given on.
        documents: of those that were kept.
        labels: kind of labels -> how many of those that were kept carry it.
        refused: reason -> how many.
        places: reason -> the first errors of this kind, with file and line.
        notes: what else was counted on the way, such as documents beyond a depth.
    """

    kept: int = 0
    documents: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def read(self) -> int:
        """All that came by, kept or refused."""
        return self.kept + sum(self.refused.values())

    def keep(self, example: Example) -> None:
        """Count one that is given on."""
        self.kept += 1
        self.documents += len(example)
        for name in example.labels:
            self.labels[name] = self.labels.get(name, 0) + 1

    def refuse(self, error: BadExample) -> None:
        """Count one that is not."""
        self.refused[error.reason] = self.refused.get(error.reason, 0) + 1
        places = self.places.setdefault(error.reason, [])
        if len(places) < SHOWN:
            places.append(str(error))

    def note(self, note: Note) -> None:
        """Count something else."""
        self.notes[note.what] = self.notes.get(note.what, 0) + note.count

    def lines(self) -> list[str]:
        """For people: what was kept, then a line for each reason with the first place where it was met."""
        carried = ", ".join(f"{self.labels[name]:,} with {name}" for name in LABELS if name in self.labels)
        said = [f"{self.kept:,} examples, {self.documents:,} documents" + (f"; {carried}" if carried else "")]
        said += [
            f"refused {count:,}: {reason} (first: {self.places[reason][0]})" for reason, count in self.refused.items()
        ]
        return said + [f"{what}: {count:,}" for what, count in self.notes.items()]

    def as_dict(self) -> dict[str, object]:
        """For machines."""
        refused = {reason: {"count": count, "first": self.places[reason]} for reason, count in self.refused.items()}
        return {
            "read": self.read,
            "kept": self.kept,
            "documents": self.documents,
            "labels": dict(self.labels),
            "refused": refused,
            "notes": dict(self.notes),
        }


class Examples(Iterable[Example]):
    """A stream that can be gone through again and again; `counts` is of the last time.

    Args:
        read: begins reading, from the start.
        needs: kinds of labels (of `LABELS`) that every example must carry: what a loss needs.
        max_documents: an example with more is refused.
        strict: the first bad example is an error, in place of being counted and left out.
        source: where it comes from, for errors.

    Raises:
        InputError: when a kind of labels is unknown or the limit is below 1.
        FileError: while reading, when a bad example is met and `strict`, or none was fit to be kept.
    """

    def __init__(
        self,
        read: Callable[[], Iterable[Example | BadExample | Note]],
        *,
        needs: Iterable[str] = (),
        max_documents: int | None = None,
        strict: bool = False,
        source: str = "the examples",
    ) -> None:
        self.counts = Counts()
        self._read, self._needs, self._most = read, frozenset(needs), max_documents
        self._strict, self.source = strict, source
        if unknown := self._needs - set(LABELS):
            raise InputError(f"no labels are called {min(unknown)!r}; there is {', '.join(map(repr, LABELS))}")
        if max_documents is not None and max_documents < 1:
            raise InputError(f"max_documents={max_documents} leaves no document; choose at least 1")

    @classmethod
    def of(cls, examples: Iterable[Example], **options: object) -> Examples:
        """A stream of examples that are there already, such as a list."""
        return cls(lambda: examples, **options)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Example]:
        counts = self.counts = Counts()
        for one in self._read():
            if isinstance(one, Note):
                counts.note(one)
                continue
            example = self._checked(one)
            if isinstance(example, Example):
                counts.keep(example)
                yield example
            elif self._strict:
                raise FileError(str(example)) from example
            else:
                counts.refuse(example)
        if not counts.kept:
            raise FileError(f"{self.source} holds no example that can be used: {'; '.join(counts.lines()[1:])}")

    def _checked(self, one: Example | BadExample) -> Example | BadExample:
        if isinstance(one, BadExample):
            return one
        if self._most is not None and len(one) > self._most:
            detail = f"{len(one)} under query {one.query[:40]!r}; at most {self._most} are wanted"
            return BadExample("too many documents", detail, one.where)
        if missing := self._needs - one.labels:
            carried = ", ".join(sorted(one.labels)) or "none"
            detail = f"query {one.query[:40]!r} has {carried}; {', '.join(sorted(missing))} is needed"
            return BadExample("labels of the wrong kind", detail, one.where)
        return one
