"""Which way a prompt is asked of a server, and through which of its doors; options that do not fit are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rerank import registry
from rerank.errors import InputError
from rerank.judges.choosing import ASKS, keywords
from rerank.judges.hosting.ways import Labels, Query, Targets, Verdict, Way, Written
from rerank.judges.readings import check_targets, checked_grades
from rerank.prompts import Blank, Prompt
from rerank.questions import Compare, Grade, GradeSet, Write

__all__ = ["APIS", "api_for", "asked_like", "usual_prompt", "way_for"]

APIS = {"chat": "/chat/completions", "completions": "/completions"}
"""What a server is asked through, and where."""

MODES = ("likelihood", "generation")

ASKED_LIKE: Mapping[str, Mapping[str, str]] = {
    "choice": {},  # which has the same two modes
    "first-token": {"mode": "likelihood"},
    "hosted": {},
    "likelihood": {"mode": "likelihood"},
    "permutation": {"mode": "generation"},
    "preference": {"mode": "generation"},
    "reasoning": {"mode": "likelihood"},
    "target-token": {"mode": "likelihood"},
    "verdict": {"mode": "likelihood"},
    "written-score": {"mode": "generation"},
}
"""How a hosted model is asked where a judge of this name would ask a model in this process."""

REDUCTIONS = ("mean", "sum")


def way_for(
    prompt: Prompt,
    mode: str | None,
    targets: Sequence[str] | None,
    grades: Sequence[float] | None,
    reduction: str | None,
    new_tokens: int | None,
) -> Way:
    """How a prompt's questions are asked, and replies read. Arguments as of `rerank.judges.hosted.Hosted`.

    Raises:
        InputError: when an option does not fit the prompt.
    """
    kind = ASKS[prompt.asks]
    if prompt.shows_demonstrations or prompt.continues != "query":
        what = "shows demonstrations" if prompt.shows_demonstrations else "is continued by an answer"
        raise InputError(f"prompt {prompt.name!r} {what}, which models in this process are asked with; choose another")
    grades = grades if grades is not None else prompt.grades or None
    if mode not in (None, *MODES):
        raise InputError(f"mode={mode!r}; choose {' or '.join(map(repr, MODES))}")
    if reduction not in (None, *REDUCTIONS):
        raise InputError(f"reduction={reduction!r}; choose 'mean' or 'sum'")
    words = prompt.targets if targets is None else tuple(targets)
    if prompt.scale:
        return _scale(prompt, mode, targets, grades, reduction, new_tokens)
    if kind is GradeSet:
        raise InputError(f"prompt {prompt.name!r} asks for attention, which no server tells; choose another prompt")
    if prompt.fused:
        raise InputError(
            f"prompt {prompt.name!r} makes a text of each document, which one decoder reads together, and no server "
            "does that; choose another prompt"
        )
    if prompt.divided:
        raise InputError(
            f"prompt {prompt.name!r} makes a text for an encoder and one for a decoder, and no server is asked in "
            "two texts; choose another prompt"
        )
    by_words = kind in (Grade, Compare)
    if not by_words and (targets is not None or grades is not None):
        raise InputError(f"prompt {prompt.name!r} asks to {prompt.asks}, which has no targets and no grades")
    chosen = mode or _usual_mode(prompt)
    if kind is Write and chosen == "likelihood":
        raise InputError(f"prompt {prompt.name!r} asks for a text, which is written: mode='generation'")
    by_query = kind is Grade and not words and chosen == "likelihood"
    if reduction is not None and not by_query:
        raise InputError(f"reduction={reduction!r} is of the likelihood of a query; leave it out")
    if by_query:
        return _query(prompt, new_tokens, reduction or "mean")
    if by_words and (chosen == "likelihood" or kind is Grade):
        check_targets(prompt.name, words, kind is Compare)
    if chosen == "generation":
        return Written(prompt, new_tokens, words, checked_grades(words, grades) if kind is Grade else ())
    if by_words:
        if prompt.judge == "verdict":
            return Verdict(prompt, new_tokens, words, ())
        return Targets(prompt, new_tokens, words, checked_grades(words, grades))
    return Labels(prompt, new_tokens)


def asked_like(judge: str | None) -> Mapping[str, str]:
    """Options with which a hosted model is asked as a judge asks a model in this process; None: as its prompt says.

    Raises:
        InputError: when the judge reads what no server tells.
    """
    if judge is not None and judge not in ASKED_LIKE:
        raise InputError(
            f"judge {judge!r} reads what no server tells; a hosted model can be asked like {', '.join(ASKED_LIKE)}"
        )
    return {} if judge is None else ASKED_LIKE[judge]


def usual_prompt(judge: str | None) -> str:
    """The prompt that a judge asks by when none is named; "" when there is none."""
    prompt = keywords(registry.load("judge", judge)).get("prompt") if judge is not None else None
    return prompt.default if prompt is not None and isinstance(prompt.default, str) else ""


def api_for(asked: str | None, prompt: Prompt, way: Way) -> str:
    """Chat or completions; by default what the prompt is.

    Raises:
        InputError: when there is no such door, or it does not lead where the way has to go.
    """
    if asked not in (None, *APIS):
        raise InputError(f"api={asked!r}; choose {' or '.join(map(repr, APIS))}")
    if way.echo and asked == "chat":
        raise InputError("the likelihood of a query is read off a text, which a chat does not give back; leave api out")
    return asked or ("completions" if prompt.plain or way.echo else "chat")


def _usual_mode(prompt: Prompt) -> str:
    """As models in this process are asked when no judge is named."""
    first = prompt.identifiers == "letters" and prompt.answer.endswith("[")
    thinks = prompt.new_tokens is not None
    written = thinks or prompt.asks == "write" or (prompt.asks == "permute" and not first)
    return "generation" if written else "likelihood"


def _scale(
    prompt: Prompt,
    mode: str | None,
    targets: Sequence[str] | None,
    grades: Sequence[float] | None,
    reduction: str | None,
    new_tokens: int | None,
) -> Way:
    """Grades that are written, on the prompt's own scale."""
    others = {"targets": targets, "grades": grades, "reduction": reduction, "mode": mode}
    for name, value in others.items():
        if value is not None and value != "generation":
            raise InputError(
                f"{name}={value!r}, but prompt {prompt.name!r} has grades written on its scale; leave it out"
            )
    return Written(prompt, new_tokens, (), ())


def _query(prompt: Prompt, new_tokens: int | None, reduction: str) -> Way:
    if any(name == "query" for _, parts in prompt.render(1) for name in _blanks(parts)):
        raise InputError(
            f"prompt {prompt.name!r} shows the query, whose likelihood is asked for, or lacks targets; give "
            "targets=['yes', 'no'], or choose 'query-likelihood' or 'rankinggpt'"
        )
    return Query(prompt, new_tokens, reduction)


def _blanks(parts: Sequence[str | Blank]) -> list[str]:
    return [part.name for part in parts if isinstance(part, Blank)]
