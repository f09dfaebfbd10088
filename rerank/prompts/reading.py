"""Reading what a model wrote: an order, a choice, a winner. What is wrong is repaired by stated rules, and told.

No answer is thrown away for its form. Each repair is a line for the ledger; an answer that says nothing at all is
repaired into the order that was shown, or is None where there is nothing to fall back on. Why it says nothing is told
too: its thought was cut off, it is empty, or nothing in it could be read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rerank.prompts.speech import said, thought_cut_off

__all__ = [
    "exact_answer",
    "plain_name",
    "read_choice",
    "read_choices",
    "read_exact_choice",
    "read_order",
    "read_winner",
    "read_word",
    "why_nothing",
]

EXACT = re.compile(r"<think>.*?</think>\s*<answer>(.*?)</answer>", re.DOTALL)
BRACKETS = re.compile(r"\[\s*(\w{1,4})\s*\]")
NUMBER = re.compile(r"\d+")
LETTER = re.compile(r"(?<![^\W_])[A-Za-z](?![^\W_])")
WORD = re.compile(r"\w")
LONGEST = 99
"""Digits of a number that may be an identifier; Python itself refuses to read thousands of them."""


def read_order(
    text: str, names: Sequence[str], *, best_last: bool = False
) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...]]:
    """An order such as "[2] > [3] = [1]".

    Identifiers in brackets are read where there are any, and bare numbers or letters where there are none. One that
    was named before, or that nothing is called by, is left out; what is not named follows in the order shown. With
    several lines the last one with a ">" is read, for a model that thinks aloud.

    Args:
        text: what the model wrote.
        names: the identifiers, in the order shown; all numbers or all letters.
        best_last: the last identifier is the best; of one that is named twice the last mention counts.

    Returns:
        Groups of indices, best first, in which each index stands once (members of a group tie); and the repairs.
    """
    where = {name.upper(): index for index, name in enumerate(names)}
    groups: list[list[int]] = []
    seen: set[int] = set()
    twice = unknown = 0
    named = _identifiers(_line(said(text)), letters=not names[0].isdigit() if names else False)
    for found, tied in _turned(named) if best_last else named:
        index = where.get(plain_name(found))
        if index is None:
            unknown += 1
        elif index in seen:
            twice += 1
        else:
            seen.add(index)
            if tied and groups:
                groups[-1].append(index)
            else:
                groups.append([index])
    missing = [index for index in range(len(names)) if index not in seen]
    groups += [[index] for index in missing]
    counted = ((twice, "named twice"), (unknown, "not there"), (len(missing), "not named"))
    repairs = [f"{count} {what}" for count, what in counted if count]
    if names and not seen:
        repairs.insert(0, why_nothing(text))
    return tuple(tuple(sorted(group)) for group in groups), tuple(repairs)


def read_choice(text: str, names: Sequence[str]) -> tuple[int | None, tuple[str, ...]]:
    """The one document that an answer names: "Passage B", "[3]", "B". None when it names none that was shown.

    The first identifier that something is called by is taken; others are told as a repair.
    """
    known = _known(text, names)
    if not known:
        return None, (f"no choice: {why_nothing(text)}",)
    return known[0], (f"{len(known)} named, the first taken",) if len(known) > 1 else ()


def read_choices(text: str, names: Sequence[str], count: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """So many documents that an answer names, in its order: "Document 3, Document 1".

    What is named beyond them is left out; where too few are, the first of the others follow in the order shown. Both
    are told as a repair.
    """
    known = _known(text, names)
    others = [index for index in range(len(names)) if index not in known]
    repairs = (
        *([f"{len(known)} named, the first {count} taken"] if len(known) > count else []),
        *([f"{count - len(known)} not named"] if len(known) < count else []),
    )
    return tuple([*known, *others][:count]), repairs


def _known(text: str, names: Sequence[str]) -> list[int]:
    """Which documents an answer names, each once."""
    where = {name.upper(): index for index, name in enumerate(names)}
    letters = bool(names) and not names[0].isdigit()
    found = [plain_name(name) for name, _ in _identifiers(said(text), letters=letters)]
    return list(dict.fromkeys(where[name] for name in found if name in where))


def read_exact_choice(text: str, names: Sequence[str]) -> tuple[int | None, tuple[str, ...]]:
    """The one document that an answer of Rank-R1's form names (https://arxiv.org/abs/2503.06034).

    The text, in lower case, must hold `<think>…</think><answer>…</answer>`, and the answer must be a label such as [3]
    and nothing else. Anything else is None.
    """
    answer = exact_answer(text.lower())
    labels = [f"[{name.lower()}]" for name in names]
    if answer in labels:
        return labels.index(answer), ()
    return None, (f"no choice: {why_nothing(text)}",)


def exact_answer(text: str) -> str | None:
    """What the first `<think>…</think><answer>…</answer>` of a text answers, stripped; None where there is none."""
    found = EXACT.search(text)
    return None if found is None else found[1].strip()


def read_winner(text: str, names: Sequence[str] = ("A", "B")) -> tuple[float | None, tuple[str, ...]]:
    """Who wins a comparison: 1.0 for the first name, 0.0 for the second, None when neither or both are named."""
    choice, repairs = read_choice(text, names)
    if choice is None or repairs:
        return None, ("no winner that could be read",)
    return float(choice == 0), ()


def read_word(text: str, words: Sequence[str]) -> tuple[int | None, tuple[str, ...]]:
    """The index of the word that an answer gives: "Yes", "the grade is 3". None when it gives none of them.

    A word counts where it stands by itself, in any case; the one that comes first is taken.
    """
    spoken = said(text)
    found = [re.search(rf"(?<!\w){re.escape(word.strip())}(?!\w)", spoken, re.IGNORECASE) for word in words]
    places = {match.start(): index for index, match in enumerate(found) if match is not None}
    if not places:
        return None, ("no target that could be read",)
    return places[min(places)], (f"{len(places)} targets written, the first taken",) if len(places) > 1 else ()


def why_nothing(text: str) -> str:
    """Why an answer says nothing: an empty one is another thing than one that cannot be read."""
    if thought_cut_off(text):
        return "thought cut off"
    return "nothing that could be read" if WORD.search(said(text)) else "empty answer"


def _line(text: str) -> str:
    """The last line that orders something, or everything."""
    lines = [line for line in text.splitlines() if ">" in line]
    return lines[-1] if lines else text


def _identifiers(text: str, *, letters: bool) -> list[tuple[str, bool]]:
    """The identifiers that a text names, each with whether an equals sign ties it to the one before."""
    pattern = BRACKETS if BRACKETS.search(text) else LETTER if letters else NUMBER
    found = []
    end = 0
    for match in pattern.finditer(text):
        found.append((match.group(1) if pattern is BRACKETS else match.group(), "=" in text[end : match.start()]))
        end = match.end()
    return found


def _turned(named: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """From the last to the first; each says whether it ties with the one that now stands before it."""
    ties = [tied for _, tied in named]
    return list(zip((name for name, _ in reversed(named)), [False, *ties[:0:-1]], strict=True)) if named else []


def plain_name(name: str) -> str:
    """An identifier as it is looked up: a number without leading zeros, a letter in upper case."""
    return str(int(name)) if name.isdecimal() and len(name) <= LONGEST else name.upper()
