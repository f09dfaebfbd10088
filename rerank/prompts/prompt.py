"""A prompt: its turns with named fields, checked when it is made; rendered, its texts are still blanks to be filled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from string import Formatter
from types import MappingProxyType
from typing import TypeAlias

from rerank import registry
from rerank.errors import InputError
from rerank.prompts.shortening import count_identifiers, shortened, without_identifiers
from rerank.prompts.speech import opens_thought
from rerank.registry import unknown
from rerank.types import Document, Query

__all__ = ["IDENTIFIERS", "KINDS", "READINGS", "Blank", "Message", "Prompt", "Turn", "identifiers"]

KINDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "grade": frozenset({"document"}),
        "grade-set": frozenset({"documents"}),
        "compare": frozenset({"first", "second"}),
        "pick": frozenset({"documents"}),
        "permute": frozenset({"documents"}),
        "write": frozenset(),
    }
)
"""What a prompt asks, by the names of `rerank.questions`, and the fields that it must have for that."""

MAY_SHOW: Mapping[str, frozenset[str]] = MappingProxyType({"write": frozenset({"document", "documents"})})
"""Fields that a prompt of a kind may have beside."""

FIELDS = frozenset({"query", "instruction", "count", "example", "wanted", "demonstrations"})
IN_A_DEMONSTRATION: Mapping[str, frozenset[str]] = MappingProxyType(
    {"grade": frozenset({"query", "document", "answer"}), "compare": frozenset({"query", "first", "second", "answer"})}
)
IN_A_LIST = frozenset({"identifier", "text"})
FOR_EACH = IN_A_LIST | {"query", "title", "prior"}
IN_A_WORDING = frozenset({"query", "instruction"})
IDENTIFIERS = ("numbers", "letters", "indices")
ROLES = ("system", "user", "assistant", "plain", "encoder", "decoder")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SAID_ELSEWHERE = ("name", "source", "description", "targets", "wordings", "judge", "new_tokens")
READINGS = ("logit", "log-probability", "difference", "expected", "peak")
"""What a grade is: the first target's logit; log P(first) over the targets; the first logit less the second; the
expected grade; the log-likelihood of the first target among all that could be written."""

CONTINUED = ("query", "answer")

"""Of a prompt file, what no model sees."""


@dataclass(frozen=True, slots=True)
class Blank:
    """A place for a text in a rendered prompt.

    Args:
        name: of the text: "query", "instruction", "demonstrations", or "document 1" and so on, in the order shown.
        document: it is a document's, and may be cut to make the prompt fit.
    """

    name: str
    document: bool = False


Message: TypeAlias = tuple[str, tuple[str | Blank, ...]]
"""Who speaks ("system", "user", "assistant", or "plain" for a prompt that is no conversation), and what; or who reads
it ("encoder", "decoder")."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says.

    Args:
        role: system, user, assistant; or plain, for a prompt that is no conversation; or encoder and decoder, who read
            a text each.
        text: with fields in braces; `{{` and `}}` are braces.
        each: say it once for every document, with {identifier} and {text}, and {query}, {title}, {prior} where they are
            wanted; neighbouring turns of this kind take turns.
    """

    role: str
    text: str
    each: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is told, and how its answer begins.

    Args:
        name: what it is called by.
        source: the paper or the repository that the wording comes from.
        asks: grade, compare, pick, permute, grade-set or write.
        turns: in order. Fields: {query}, {instruction}, {demonstrations}; {document} of a grade, and of what is written
            for one; {first} and {second}
            of a comparison; {documents}, {count} and {example} of a list; {wanted}, how many are to be chosen of it. A
            turn that is said for each document may have its {title}, which {text} then leaves out, and in a prompt that
            grades a set {prior}: the score of the stage before, as a whole number from 0 to 100.
        document: how one document of {documents} is shown, with {identifier} and {text}.
        between: what stands between two of them.
        identifiers: how documents of a list are called: numbers from 1, letters, or indices from 0, which no answer
            names.
        targets: the words whose probability is the answer, the better first; empty when the answer is written.
        grades: what each target is worth, where they are more than two and no numbers themselves.
        answer: how the model's answer begins; it is put there for it.
        reading: how a grade is read off the targets, where that is not the usual way (`READINGS`).
        continues: what a likelihood judge finds likely behind the prompt: the "query", or an "answer" to it.
        demonstration: how one of {demonstrations} is shown, with {query}, {answer} and {document} or {first} and
            {second}.
        instruction: what {instruction} says when the query brings none.
        best_last: the order that the model writes ends with the most relevant document (ListT5).
        wording: what {query} says, with {query} and {instruction}: for models that read an instruction as part of the
            query. The query's text by default.
        wordings: other wordings by name, such as one for each collection.
        words, characters, tokens: the most of a document, as published, tokens in the model's own; None: all.
        scale: the lowest and the highest grade that is written; empty when none is.
        worst: it asks for the worst document, not the best.
        exact: an answer counts only as "<think>…</think><answer>[3]</answer>", an identifier and nothing else in it.
        thinking: the chat template is to let the model think, where it asks (`enable_thinking`).
        stop: strings at which an answer ends; they are no part of it.
        new_tokens: the most tokens of an answer, as published; None: what its judge usually allows.
        judge: the name of the judge that asks it when none is named; that of its kind by default.
        description: one line for a person who chooses.

    Raises:
        InputError: when a field is unknown, is missing, or stands where it cannot be filled.
    """

    name: str
    source: str
    asks: str
    turns: tuple[Turn, ...]
    document: str = ""
    between: str = "\n"
    identifiers: str = "numbers"
    targets: tuple[str, ...] = ()
    grades: tuple[float, ...] = ()
    answer: str = ""
    reading: str = ""
    continues: str = "query"
    demonstration: str = ""
    instruction: str = ""
    wording: str = ""
    wordings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    words: int | None = None
    characters: int | None = None
    tokens: int | None = None
    scale: tuple[float, ...] = ()
    worst: bool = False
    exact: bool = False
    thinking: bool = False
    stop: tuple[str, ...] = ()
    new_tokens: int | None = None
    judge: str = ""
    description: str = ""
    best_last: bool = False

    def __post_init__(self) -> None:
        if self.asks not in KINDS:
            raise unknown("kind of question", self.asks, KINDS)
        if self.identifiers not in IDENTIFIERS:
            raise unknown("kind of identifier", self.identifiers, IDENTIFIERS)
        if self.reading and self.reading not in READINGS:
            raise unknown("reading", self.reading, READINGS)
        if self.continues not in CONTINUED:
            raise unknown("continuation", self.continues, CONTINUED)
        if not self.turns:
            raise InputError(f"prompt {self.name!r} says nothing: it has no turn")
        self._check_sides()
        needed = KINDS[self.asks] - ({"documents"} if any(turn.each for turn in self.turns) else set())
        used = {field for turn in self.turns for field in self._checked(turn)}
        if missing := needed - used:
            raise InputError(f"prompt {self.name!r} asks to {self.asks} and never shows {{{sorted(missing)[0]}}}")
        self._check_demonstration("demonstrations" in used)
        if "documents" in used:
            _fields(self.name, "document", self.document, IN_A_LIST)
            if "text" not in dict.fromkeys(field for _, field in _pieces(self.document)):
                raise InputError(f"prompt {self.name!r}: [document] never shows {{text}}")
        if self.shows_priors and self.asks != "grade-set":
            raise InputError(f"prompt {self.name!r} asks to {self.asks}, and {{prior}} is for prompts that grade a set")
        self._check_wordings()
        self._check_answers()

    @property
    def shows(self) -> int | None:
        """How many documents it shows; None when that is up to whoever asks."""
        if self.asks == "write":
            return None if self._shows("documents") else int(self._shows("document"))
        return {"grade": 1, "compare": 2}.get(self.asks)

    @property
    def plain(self) -> bool:
        """Whether it is a text that the model continues, and no conversation."""
        return all(turn.role == "plain" for turn in self.turns)

    @property
    def identity(self) -> list[str]:
        """All that decides what a model sees, for keys: another name for the same prompt changes nothing."""
        names = [field.name for field in fields(self) if field.name not in SAID_ELSEWHERE]
        return [f"{name}={getattr(self, name)!r}" for name in names]

    @property
    def chooses_several(self) -> bool:
        """Whether it says how many documents are to be chosen."""
        return any("wanted" in dict.fromkeys(field for _, field in _pieces(turn.text)) for turn in self.turns)

    @property
    def fused(self) -> bool:
        """Each document is a text of its own; a decoder reads them together (fusion in decoder)."""
        return all(turn.each and turn.role == "plain" for turn in self.turns)

    @property
    def divided(self) -> bool:
        """An encoder reads the document, and a decoder what is asked of it."""
        return any(turn.role in ("encoder", "decoder") for turn in self.turns)

    @property
    def shows_priors(self) -> bool:
        """It shows how the stage before scored each document."""
        return "prior" in self._for_each

    def render(self, documents: int) -> tuple[Message, ...]:
        """The prompt for so many documents, with a blank for every text.

        Raises:
            InputError: when it shows another number of documents, or there are more of them than identifiers.
        """
        if self.shows not in (None, documents):
            raise InputError(f"prompt {self.name!r} shows {self.shows} documents, and {documents} were given")
        shown = identifiers(self.identifiers, documents)
        messages: list[Message] = []
        for each, group in groupby(self.turns, key=lambda turn: turn.each):
            turns = list(group)
            if each:
                messages += [
                    (turn.role, tuple(self._listed(turn.text, index, name)))
                    for index, name in enumerate(shown)
                    for turn in turns
                ]
            else:
                messages += [(turn.role, tuple(self._filled(turn.text, shown))) for turn in turns]
        return tuple(messages)

    def texts(
        self,
        query: Query,
        documents: Sequence[Document],
        wanted: int = 1,
        priors: Sequence[float] | None = None,
        *,
        wording: str | None = None,
        whole: bool = False,
    ) -> dict[str, str]:
        """What the blanks say, by name.

        In lists whose identifiers stand in brackets, brackets in texts that look like identifiers become parentheses:
        a passage that cites [3] would otherwise be read as naming a document.

        Args:
            query, documents: what is shown.
            wanted: how many of them are to be chosen, where that is asked.
            priors: what the stage before made of each document, from 0 to 1, for a prompt that shows it.
            wording: how the query is said, one of `wordings`; None: as the prompt usually says it.
            whole: documents as they would be were they not too long for what was published.
        """
        clean = without_identifiers if self._lists else str
        apart = "title" in self._for_each
        bodies = [document.text if apart else document.full_text for document in documents]
        shown = [clean(self._shown(body, whole)) for body in bodies]
        more: dict[str, str] = {}
        if apart:
            more |= {f"title {index}": clean(document.title) for index, document in enumerate(documents, start=1)}
        if self.shows_priors:
            known = priors if priors is not None else [0.0] * len(documents)
            more |= {f"prior {index}": str(int(100 * prior)) for index, prior in enumerate(known, start=1)}
        return {
            "query": self._worded(query, wording, clean(query.text)),
            "instruction": query.instruction or self.instruction,
            "wanted": str(wanted),
            "demonstrations": "",
            **{f"document {index}": text for index, text in enumerate(shown, start=1)},
            **more,
        }

    @property
    def opens_thought(self) -> bool:
        """Whether it ends with the beginning of a thought."""
        return opens_thought(self.turns[-1].text + self.answer)

    def complete_list(self, documents: int) -> str:
        """A list that names every document as they are named where they are shown: "[1] > [2]", or by "PASSAGE1 ="."""
        names = identifiers(self.identifiers, documents)
        if self.fused:
            bracketed = "[{identifier}]" in self.turns[0].text
            return " > ".join(f"[{name}]" for name in names) if bracketed else " ".join(names)
        each = next((turn.text for turn in self.turns if turn.each), self.document)
        before = each.partition("{text}")[0].strip()
        shown = before if "{identifier}" in before else "[{identifier}]"
        return " > ".join(shown.format(identifier=name) for name in names)

    @property
    def _for_each(self) -> set[str | None]:
        """The fields of turns that are said for each document."""
        return {field for turn in self.turns if turn.each for _, field in _pieces(turn.text)}

    def identifiers_in(self, query: Query, documents: Sequence[Document]) -> int:
        """How many brackets of these texts `texts` turns into parentheses."""
        if not self._lists:
            return 0
        shown = [query.text, *(self._shown(document.full_text, whole=False) for document in documents)]
        return sum(count_identifiers(text) for text in shown)

    @property
    def _lists(self) -> bool:
        lists = "documents" in KINDS[self.asks] or (self.asks == "write" and self._shows("documents"))
        return lists and self.identifiers != "indices"

    def _shows(self, field: str) -> bool:
        """Whether a turn has this field."""
        return any(field == one for turn in self.turns for _, one in _pieces(turn.text))

    @property
    def shows_demonstrations(self) -> bool:
        """Whether it has a place for them."""
        return bool(self.demonstration)

    def shortened(self, text: str) -> str:
        """A document's text, as much of it as was published."""
        return self._shown(text, whole=False)

    def demonstrated(self, **fields: str) -> str:
        """One demonstration: its fields filled."""
        return "".join(before + fields.get(field or "", "") for before, field in _pieces(self.demonstration))

    def _check_demonstration(self, used: bool) -> None:
        if used != bool(self.demonstration):
            missing = "[demonstration] for" if used else "{demonstrations} for its"
            raise InputError(f"prompt {self.name!r} has no {missing} {'{demonstrations}' if used else 'demonstration'}")
        if not used:
            return
        allowed = IN_A_DEMONSTRATION.get(self.asks)
        if allowed is None:
            raise InputError(f"prompt {self.name!r} asks to {self.asks}; demonstrations show grades and comparisons")
        _fields(self.name, "demonstration", self.demonstration, allowed)

    def wording_of(self, name: str | None) -> str:
        """A wording by its name; the usual one for None, which may be empty.

        Raises:
            UnknownName: when there is none of that name.
        """
        if name is not None and name not in self.wordings:
            raise unknown(f"wording of prompt {self.name!r}", name, self.wordings)
        return self.wording if name is None else self.wordings[name]

    def _worded(self, query: Query, name: str | None, text: str) -> str:
        wording = self.wording_of(name)
        if not wording:
            return text
        said = {"query": text, "instruction": query.instruction or self.instruction}
        return "".join(before + (said[field] if field else "") for before, field in _pieces(wording)).rstrip(" ")

    def _shown(self, text: str, whole: bool) -> str:
        if self.words is None and self.characters is None:
            return text
        most = None if whole else self.words, None if whole else self.characters
        return shortened(text, *most)

    def _check_wordings(self) -> None:
        for wording in filter(None, (self.wording, *self.wordings.values())):
            if "query" not in _fields(self.name, "wording", wording, IN_A_WORDING):
                raise InputError(f"prompt {self.name!r}: the wording {wording[:40]!r} never says {{query}}")

    def _check_answers(self) -> None:
        for name in ("words", "characters", "tokens", "new_tokens"):
            if (limit := getattr(self, name)) is not None and limit < 1:
                raise InputError(f"prompt {self.name!r}: {name} = {limit} leaves nothing; it is 1 or more")
        if self.judge and self.judge not in registry.names("judge"):
            raise unknown("judge", self.judge, registry.names("judge"))
        if self.scale and (len(self.scale) != 2 or self.scale[0] >= self.scale[1]):
            raise InputError(
                f"prompt {self.name!r}: scale = {list(self.scale)}; it is the lowest grade and the highest"
            )
        if self.scale and (self.asks not in ("grade", "grade-set") or self.targets):
            raise InputError(f"prompt {self.name!r}: a scale is of grades that are written, without targets")
        if (self.worst or self.exact) and self.asks != "pick":
            raise InputError(f"prompt {self.name!r}: worst and exact are of prompts that ask to pick")

    def _check_sides(self) -> None:
        sides = [turn.role for turn in self.turns]
        if not self.divided:
            return
        if sides != ["encoder", "decoder"] or self.asks != "grade":
            raise InputError(
                f"prompt {self.name!r} asks to {self.asks} with turns of {', '.join(sides)}; an encoder and a decoder "
                "are told one thing each, in this order, to grade a document"
            )
        if {"document"} & {field for _, field in _pieces(self.turns[1].text)}:
            raise InputError(f"prompt {self.name!r}: [decoder] shows {{document}}, which the encoder alone reads")

    def _checked(self, turn: Turn) -> list[str]:
        if turn.role not in ROLES:
            raise InputError(f"prompt {self.name!r}: a turn is said by {turn.role!r}; there is {', '.join(ROLES)}")
        allowed = FOR_EACH if turn.each else FIELDS | KINDS[self.asks] | MAY_SHOW.get(self.asks, frozenset())
        return _fields(self.name, "turn", turn.text, allowed)

    def _filled(self, text: str, shown: Sequence[str]) -> Iterator[str | Blank]:
        plain = {"count": str(len(shown)), "example": _example(self.identifiers, len(shown))}
        places = {"document": 1, "first": 1, "second": 2}
        for before, field in _pieces(text):
            yield before
            if field in plain:
                yield plain[field]
            elif field in places:
                yield Blank(f"document {places[field]}", document=True)
            elif field == "documents":
                yield from self._documents(shown)
            elif field:
                yield Blank(field)

    def _documents(self, shown: Sequence[str]) -> Iterator[str | Blank]:
        for index, name in enumerate(shown):
            if index:
                yield self.between
            yield from self._listed(self.document, index, name)

    def _listed(self, text: str, index: int, name: str) -> Iterator[str | Blank]:
        for before, field in _pieces(text):
            yield before
            if field == "identifier":
                yield name
            elif field == "text":
                yield Blank(f"document {index + 1}", document=True)
            elif field:
                yield Blank(field if field == "query" else f"{field} {index + 1}")


def identifiers(kind: str, count: int) -> list[str]:
    """What the documents of a list are called, in the order shown.

    Raises:
        InputError: when there are more documents than letters.
    """
    if kind != "letters":
        return [str(number + (kind == "numbers")) for number in range(count)]
    if count > len(LETTERS):
        raise InputError(f"{count} documents cannot be called by letters; show at most {len(LETTERS)} at once")
    return list(LETTERS[:count])


def _example(kind: str, count: int) -> str:
    """An order that is not the one shown, as prompts give it to explain the format: [2] > [1]."""
    first, second = identifiers(kind, 2)
    return f"[{second}] > [{first}]" if count != 1 else f"[{first}]"


def _pieces(text: str) -> list[tuple[str, str | None]]:
    """(text in front, field) pairs; the last may have no field."""
    return [(before, field) for before, field, _, _ in Formatter().parse(text)]


def _fields(name: str, where: str, text: str, allowed: frozenset[str]) -> list[str]:
    try:
        found = [field for _, field in _pieces(text) if field is not None]
    except ValueError as error:
        raise InputError(f"prompt {name!r}: [{where}] cannot be read: {error}; write {{{{ for a brace") from error
    for field in found:
        if field not in allowed:
            may = ", ".join(f"{{{one}}}" for one in sorted(allowed))
            raise InputError(f"prompt {name!r}: [{where}] uses {{{field}}}; it may use {may}")
    return found
