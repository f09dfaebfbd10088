"""What the bodies of all dialects share: no value of another type is taken for the right one, no key is passed over."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, FailFast, Field

__all__ = ["Body", "Count", "Documents", "Object", "Texts", "Usage", "usage"]

Count: TypeAlias = Annotated[int, Field(ge=1, le=2**31)]
Texts: TypeAlias = Annotated[list[str], Field(min_length=1)]
Documents: TypeAlias = Annotated[list[str | dict[str, str]], Field(min_length=1), FailFast()]
Object: TypeAlias = dict[str, Any]


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class Usage(BaseModel):
    """Tokens that were computed for a request, or taken over from an earlier computation."""

    prompt_tokens: int
    total_tokens: int


def usage(tokens: int) -> Object:
    """In the words of OpenAI and Jina."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}
