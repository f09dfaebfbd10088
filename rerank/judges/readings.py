"""From numbers or words to an answer: what every judge makes of log-probabilities, whoever computed them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from rerank.errors import InputError
from rerank.prompts.grading import read_grade, read_grades
from rerank.prompts.prompt import Prompt, identifiers
from rerank.prompts.reading import read_choice, read_choices, read_exact_choice, read_order
from rerank.questions import (
    Answer,
    Compare,
    Compared,
    Graded,
    GradedSet,
    GradeSet,
    Permuted,
    Pick,
    Picked,
    Question,
)

__all__ = [
    "by_choice",
    "by_labels",
    "by_targets",
    "check_targets",
    "check_written_pick",
    "checked_grades",
    "checked_reading",
    "log_shares",
    "ordered",
    "picked",
    "usual_reading",
    "wanted",
    "written_grade",
    "written_list",
    "written_pick",
]


def by_targets(
    question: Question,
    logits: Sequence[float],
    grades: Sequence[float],
    repairs: Sequence[str] = (),
    reading: str = "",
) -> Answer:
    """A grade or a comparison by the logits of its target words, the better first.

    A comparison is P(first); a grade is the raw logit of one target, log P(first) over two, and the expected grade
    Σ P(target) · grade over more; or what `reading` says (`rerank.prompts.prompt.READINGS`).

    Args:
        question: a `Grade` or a `Compare`.
        logits: one for each target; log-probabilities will do, but for a single target's.
        grades: what each target is worth; only where there are more than two.
        repairs: that were needed to have the logits.
        reading: as `checked_reading` gives it; by default by the number of targets.
    """
    shares = log_shares(logits)
    if isinstance(question, Compare):
        return Compared(math.exp(shares[0]), tuple(repairs))
    if (reading or usual_reading(len(logits))) == "logit":
        return Graded(logits[0], tuple(repairs))
    if reading == "difference":
        return Graded(logits[0] - logits[1], tuple(repairs))
    if len(logits) == 2:
        return Graded(shares[0], tuple(repairs))
    return Graded(sum(math.exp(share) * grade for share, grade in zip(shares, grades, strict=True)), tuple(repairs))


def by_labels(question: Question, scores: Sequence[float], repairs: Sequence[str] = ()) -> Answer:
    """A choice or an order by the scores of the labels that documents go by."""
    return picked(question, scores, repairs) if isinstance(question, Pick) else ordered(scores, repairs)


def picked(question: Pick, scores: Sequence[float], repairs: Sequence[str] = ()) -> Picked:
    """The best by score, or the worst; of equal ones the document shown first."""
    sign = 1 if question.worst else -1
    order = sorted(range(len(scores)), key=lambda index: sign * scores[index])
    return Picked(tuple(order[: question.count]), tuple(scores), tuple(repairs))


def ordered(scores: Sequence[float], repairs: Sequence[str] = ()) -> Permuted:
    """All of them by score; equal ones as they were shown."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    return Permuted(tuple((index,) for index in order), tuple(scores), tuple(repairs))


def wanted(question: Question) -> int:
    """How many documents a question wants to be chosen."""
    return question.count if isinstance(question, Pick) else 1


def written_pick(text: str, labels: Sequence[str], count: int = 1, *, exact: bool = False) -> Picked:
    """The documents that an answer names, in Rank-R1's form alone if `exact`.

    Where it names none it is nothing, with a repair; of several that were wanted, those shown first fill up.
    """
    if count > 1:
        indices, several = read_choices(text, labels, count)
        return Picked(indices, repairs=several)
    choice, repairs = (read_exact_choice if exact else read_choice)(text, labels)
    return Picked(() if choice is None else (choice,), repairs=repairs)


def written_grade(question: Question, text: str, prompt: Prompt) -> Graded | GradedSet:
    """The grade, or those of a group, on the prompt's scale, by the rules of `rerank.prompts.grading`."""
    if isinstance(question, GradeSet):
        names = identifiers(prompt.identifiers, len(question.documents))
        return GradedSet(*read_grades(text, names, prompt.scale))
    return Graded(*read_grade(text, prompt.scale))


def written_list(text: str, labels: Sequence[str], *, best_last: bool = False) -> Permuted:
    """The order that an answer names, repaired by the rules of `rerank.prompts.reading.read_order`."""
    groups, repairs = read_order(text, labels, best_last=best_last)
    return Permuted(groups, repairs=repairs)


def check_written_pick(question: Question, prompt: Prompt) -> None:
    """Refuse a choice that the prompt does not ask for.

    Raises:
        InputError: when the worst are wanted and it asks for the best, or the reverse; or several, and it asks for one.
    """
    if not isinstance(question, Pick):
        return
    if question.worst != prompt.worst or (question.count > 1 and not prompt.chooses_several):
        which = "worst" if question.worst else "best"
        asked = f"{'worst' if prompt.worst else 'best'} {'documents' if prompt.chooses_several else 'document'}"
        wanted = f"the {which}" if question.count == 1 else f"the {question.count} {which}"
        raise InputError(
            f"prompt {prompt.name!r} has the {asked} written, "
            f"and {wanted} of {len(question.documents)} were asked for; choose another prompt, or mode='likelihood'"
        )


def by_choice(question: Question, scores: Sequence[float], prompt: Prompt, repairs: Sequence[str] = ()) -> Answer:
    """As `by_labels`; of a prompt that asks for the worst a label's score is how bad its document is."""
    return by_labels(question, [-score for score in scores] if prompt.worst else scores, repairs)


def log_shares(logits: Sequence[float]) -> list[float]:
    """log P of each among these alone."""
    top = max(logits)
    total = top + math.log(sum(math.exp(logit - top) for logit in logits))
    return [logit - total for logit in logits]


def checked_grades(words: Sequence[str], grades: Sequence[float] | None) -> tuple[float, ...]:
    """What each target is worth: nothing with one or two, whose logits are the score.

    Raises:
        InputError: when there are none where they are needed, another number of them, or they do not fall.
    """
    if len(words) <= 2:
        if grades is not None:
            raise InputError(f"grades={list(grades)} with {len(words)} targets, whose logits are the score; leave out")
        return ()
    if grades is None:
        if not all(word.strip().isdecimal() for word in words):
            raise InputError(f"what are the targets {', '.join(map(repr, words))} worth? Give grades, one for each")
        grades = [float(word) for word in words]
    if len(grades) != len(words):
        raise InputError(f"there are {len(grades)} grades for {len(words)} targets")
    if any(before <= after for before, after in pairwise(grades)):
        raise InputError(f"grades={list(grades)} do not fall; the better target stands first")
    return tuple(map(float, grades))


def usual_reading(targets: int) -> str:
    """How a grade is read off so many targets when nothing is said."""
    return {1: "logit", 2: "log-probability"}.get(targets, "expected")


def checked_reading(words: Sequence[str], asked: str) -> str:
    """How a grade is read off targets.

    Args:
        words: the targets.
        asked: by a user or a prompt; empty: the usual way.

    Raises:
        InputError: when that needs another number of targets.
    """
    fits = {1: ("logit",), 2: ("log-probability", "difference", "logit")}.get(len(words), ("expected", "logit"))
    if asked and asked not in fits:
        raise InputError(
            f"reading={asked!r} with {len(words)} targets, {', '.join(map(repr, words))}; "
            f"these are read by {' or '.join(fits)}"
        )
    return asked or fits[0]


def check_targets(name: str, words: Sequence[str], compares: bool) -> None:
    """Refuse a number of targets that is no answer.

    Args:
        name: of the prompt.
        words: the targets.
        compares: whether it asks for a comparison.

    Raises:
        InputError: saying what is missing.
    """
    if not words:
        raise InputError(f"prompt {name!r} names no targets; give them (targets=['yes', 'no']) or take another judge")
    if compares and len(words) != 2:
        raise InputError(f"a comparison needs two targets, the first wins; there are {len(words)}: {list(words)}")
