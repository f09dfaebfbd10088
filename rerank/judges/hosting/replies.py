"""What a server's answer says: a text, its tokens with their log-probabilities, and what it is charged as."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rerank.errors import JudgeError

__all__ = ["Reply", "Step", "Usage", "reply"]


@dataclass(frozen=True, slots=True)
class Step:
    """One token that was written, or read back.

    Args:
        text: of the token.
        log_prob: of it, over all tokens; None where the server does not tell, as of a text's first token.
        top: (text, log-probability) of the likeliest tokens in its place.
        at: characters in front of it, where the server tells.
    """

    text: str
    log_prob: float | None
    top: tuple[tuple[str, float], ...] = ()
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counts them: of the prompt, of these not computed again, and written."""

    prompt: int
    cached: int
    written: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Args:
        text: what was written; with an echo, the prompt in front of it.
        steps: its tokens; None when the server gives no log-probabilities.
        cut: it is not finished, because it may not be longer.
        usage: what it is charged as; None when the server does not tell.
        model, fingerprint: as the server names them.
    """

    text: str
    steps: tuple[Step, ...] | None
    cut: bool
    usage: Usage | None
    model: str
    fingerprint: str


def reply(body: Mapping[str, Any]) -> Reply:
    """A reply out of the body of a chat's or a completion's answer.

    Raises:
        JudgeError: when it is neither.
    """
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        if not isinstance(text, str | None):
            raise TypeError(f"its text is {text!r}")
        return Reply(
            text=text or "",
            steps=_steps(choice.get("logprobs")),
            cut=choice.get("finish_reason") == "length",
            usage=_usage(body.get("usage")),
            model=str(body.get("model") or ""),
            fingerprint=str(body.get("system_fingerprint") or ""),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise JudgeError(f"the server's answer cannot be read: {type(error).__name__}: {error}") from error


def _steps(found: Any) -> tuple[Step, ...] | None:
    if not found:
        return None
    if (content := found.get("content")) is not None:
        return tuple(_chat_step(entry) for entry in content)
    if found.get("token_logprobs") is None:
        return None
    return tuple(_completion_steps(found))


def _chat_step(entry: Mapping[str, Any]) -> Step:
    top = tuple((str(each["token"]), _number(each["logprob"])) for each in entry.get("top_logprobs") or ())
    return Step(str(entry["token"]), _number(entry["logprob"]), top)


def _completion_steps(found: Mapping[str, Any]) -> Iterator[Step]:
    tokens, numbers = found["tokens"], found["token_logprobs"]
    tops: Sequence[Mapping[str, float] | None] = found.get("top_logprobs") or [None] * len(tokens)
    places: Sequence[int | None] = found.get("text_offset") or [None] * len(tokens)
    for token, number, top, at in zip(tokens, numbers, tops, places, strict=True):
        likeliest = tuple((str(text), _number(value)) for text, value in (top or {}).items())
        yield Step(str(token), None if number is None else _number(number), likeliest, None if at is None else int(at))


def _number(value: Any) -> float:
    """A log-probability; -9999 and -inf, as servers say for 0, are kept finite."""
    number = float(value)
    if math.isnan(number):
        raise ValueError("a log-probability is not a number")
    return max(number, -9999.0)


def _usage(found: Any) -> Usage | None:
    if not found or found.get("prompt_tokens") is None:
        return None
    details = found.get("prompt_tokens_details") or {}
    prompt, written = int(found["prompt_tokens"]), int(found.get("completion_tokens") or 0)
    if prompt < 0 or written < 0:
        raise ValueError(f"its usage is {found}")
    return Usage(prompt, min(prompt, int(details.get("cached_tokens") or 0)), written)
