"""The contract in the middle: what algorithms may ask, what judges answer, and the two roles themselves.

An algorithm is a generator that yields questions and receives their answers, in the same order; one `yield` is a round.
A judge answers questions with one model and one prompt. The scheduler (`rerank.engine.scheduler`) stands between them.
Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from rerank.errors import InputError
from rerank.types import Document, Query, Ranking

__all__ = [
    "Algorithm",
    "Announce",
    "Answer",
    "Bill",
    "Compare",
    "Compared",
    "Grade",
    "GradeSet",
    "Graded",
    "GradedSet",
    "Heard",
    "Judge",
    "Permute",
    "Permuted",
    "Pick",
    "Picked",
    "Plan",
    "Question",
    "Write",
    "Written",
    "content_key",
    "numbers_of",
]


@dataclass(frozen=True, slots=True)
class Graded:
    """The score of one document: higher is better.

    `logits` are those of the words that it was read from, the better first, of a judge that was told to keep them.
    """

    score: float
    repairs: tuple[str, ...] = ()
    logits: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", float(self.score))  # a numpy scalar would not survive the journal


@dataclass(frozen=True, slots=True)
class GradedSet:
    """The scores of a set of documents that were read together, in the order asked."""

    scores: tuple[float, ...]
    repairs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", tuple(float(score) for score in self.scores))


@dataclass(frozen=True, slots=True)
class Compared:
    """P(the first document wins); None when what the model wrote could not be read."""

    probability: float | None
    repairs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.probability is not None:
            object.__setattr__(self, "probability", float(self.probability))


@dataclass(frozen=True, slots=True)
class Picked:
    """The indices picked, best (or worst) first, and the scores of all documents where the model gives them.

    No index, with a repair that says why, when what the model wrote could not be read.
    """

    indices: tuple[int, ...]
    scores: tuple[float, ...] | None = None
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Permuted:
    """Groups of indices, best first; the members of a group tie."""

    groups: tuple[tuple[int, ...], ...]
    scores: tuple[float, ...] | None = None
    repairs: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[int, ...]:
        """The indices alone; those that tie keep the order of their group."""
        return tuple(index for group in self.groups for index in group)


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote."""

    text: str
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """An announcement was taken note of."""

    repairs: tuple[str, ...] = ()


def numbers_of(answer: Answer) -> tuple[float, ...]:
    """The scores and probabilities that an answer holds."""
    match answer:
        case Graded():
            return (answer.score, *answer.logits)
        case GradedSet():
            return answer.scores
        case Compared():
            return () if answer.probability is None else (answer.probability,)
        case Picked() | Permuted():
            return answer.scores or ()
    return ()


Answer: TypeAlias = Graded | GradedSet | Compared | Picked | Permuted | Written | Heard


@dataclass(frozen=True, slots=True)
class Grade:
    """How relevant is this document? -> `Graded`.

    Args:
        continuation: a text whose likelihood behind the document is the grade, in place of the query's: an answer that
            somebody wrote. For likelihood judges.
    """

    answered_by: ClassVar[type[Graded]] = Graded
    query: Query
    document: Document
    draw: int = 0
    continuation: str | None = None

    @property
    def documents(self) -> tuple[Document, ...]:
        """The documents the question shows, in order."""
        return (self.document,)


@dataclass(frozen=True, slots=True)
class GradeSet:
    """How relevant is each of these, read together? One call, never split -> `GradedSet`.

    `priors` says what the stage before made of each document, from 0 (the list's worst) to 1 (its best); None when it
    did not score them all. Only a judge that says so (`reads_priors`) looks at them.
    """

    answered_by: ClassVar[type[GradedSet]] = GradedSet
    query: Query
    documents: tuple[Document, ...]
    draw: int = 0
    priors: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    """Is the first more relevant than the second, shown in this ONE order? -> `Compared`."""

    answered_by: ClassVar[type[Compared]] = Compared
    query: Query
    first: Document
    second: Document
    draw: int = 0

    @property
    def documents(self) -> tuple[Document, ...]:
        """The documents the question shows, in order."""
        return (self.first, self.second)


@dataclass(frozen=True, slots=True)
class Pick:
    """Which `count` of these are the most (`worst`: the least) relevant? -> `Picked`."""

    answered_by: ClassVar[type[Picked]] = Picked
    query: Query
    documents: tuple[Document, ...]
    count: int = 1
    worst: bool = False
    draw: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= len(self.documents):
            raise InputError(f"cannot pick {self.count} of {len(self.documents)} documents")


@dataclass(frozen=True, slots=True)
class Permute:
    """In which order of relevance do these stand? -> `Permuted`."""

    answered_by: ClassVar[type[Permuted]] = Permuted
    query: Query
    documents: tuple[Document, ...]
    draw: int = 0


@dataclass(frozen=True, slots=True)
class Write:
    """Write a text about the query and these documents -> `Written`."""

    answered_by: ClassVar[type[Written]] = Written
    query: Query
    documents: tuple[Document, ...] = ()
    draw: int = 0


@dataclass(frozen=True, slots=True)
class Announce:
    """These documents open a question that is coming; a judge may prepare for it or ignore it -> `Heard`.

    It is no question of a round: the plan gets its `Heard` at once, the judge sees it if `Announce` stands among its
    `answers`, and what becomes of it there is nobody's concern but the judge's.
    """

    answered_by: ClassVar[type[Heard]] = Heard
    query: Query
    documents: tuple[Document, ...]
    draw: int = 0


Question: TypeAlias = Grade | GradeSet | Compare | Pick | Permute | Write | Announce

Plan: TypeAlias = Generator[list[Question], list[Answer], Ranking]
"""An algorithm at work on one query."""


@dataclass(frozen=True)
class Algorithm:
    """A named way of asking: call it with a ranking to get a plan.

    Args:
        name: what `rerank list` and `--algorithm` call it.
        plan: the generator function.
        asks: the question kinds it may yield; `Announce`, which any judge may ignore, is not counted among them.
        exact: (number of documents, **options) -> how many head positions a perfect judge guarantees.
    """

    name: str
    plan: Callable[..., Plan]
    asks: frozenset[type]
    exact: Callable[..., int]

    def __call__(self, ranking: Ranking, **options: int | float | str | bool) -> Plan:
        """An algorithm at work on one ranking."""
        return self.plan(ranking, **options)


class Bill(Protocol):
    """Where work is charged to; `rerank.cost.Ledger` is the one that is kept."""

    def charge(self, query_id: str, **amounts: float) -> None:
        """Add amounts (tokens, flops, …) to one query's account and to the total."""

    def note(self, name: str, value: str) -> None:
        """Record a choice that was made, such as the attention provider."""


@runtime_checkable
class Judge(Protocol):
    """Answers questions with one model and one prompt.

    A judge may also have

    - `check_queries(queries)`, which raises InputError for queries that it cannot read: it is called before any work is
      done for them;
    - `concurrent`, a number, when somebody else computes its answers: `answer` is then called from so many threads at
      once, with one question each, instead of with many questions from one thread;
    - `scale`, what its grades are: "logit", whose sigmoid is a probability of relevance, "log-probability", or
      "probability"; without it, or where it is "", they are on a scale of its own;
    - `reads_priors`, True when its answers depend on the `priors` of a `GradeSet` too;
    - `retry`, a `rerank.engine.scheduling.retries.Retry`: how it is asked again after a `rerank.errors.Transient`.
    """

    key: str
    """Hash of model, revision, prompt, tokenizer and options: part of every journal key."""
    answers: frozenset[type]
    """The question kinds it can answer."""
    reads_ids: bool
    """True when the answer depends on ids (an oracle with judgments), not on texts alone."""

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Answer | Exception]]:
        """Yield (index of the question, its answer) in any order, as they become known.

        An exception in an answer's place fails that question alone. When `answer` itself raises, the questions that
        are still open are asked again, one at a time, so that only those fail which cannot be answered. A `Transient`
        error, given or raised, lets the questions wait and be asked again. An `Announce` needs no answer.
        """


def content_key(judge: Judge, question: Question) -> str:
    """What makes two questions the same question: the judge, the kind, the order and the texts (32 hex digits).

    Ids are left out, so that equal texts share an answer, unless the judge reads ids.
    """
    digest = hashlib.blake2b(digest_size=16)
    parts = [judge.key, type(question).__name__, str(question.draw)]
    if isinstance(question, Pick):
        parts += [str(question.count), str(question.worst)]
    if isinstance(question, Grade) and question.continuation is not None:
        parts.append(f"behind it: {question.continuation}")
    parts += [question.query.text, question.query.instruction]
    for document in question.documents:
        parts += [document.title, document.text]
    if isinstance(question, GradeSet) and getattr(judge, "reads_priors", False):
        parts.append(repr(question.priors))
    if judge.reads_ids:
        parts += [question.query.query_id, *(document.doc_id for document in question.documents)]
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()
