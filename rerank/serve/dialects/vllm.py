"""vLLM: `documents` at `/rerank`, and pairs at `/score` (https://docs.vllm.ai/en/latest/serving/openai_compatible_server)."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from rerank.errors import InputError
from rerank.serve.asked import Answered, Asked
from rerank.serve.dialects.fields import Body, Object, Texts, Usage, usage

__all__ = ["Error", "Request", "Response", "Score", "Scores", "answer", "error", "scores"]


class Shared(Body):
    """What both kinds of request have."""

    model: str | None = None
    truncate_prompt_tokens: Literal[-1] | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=0, le=2**31)] = 0
    max_tokens_per_query: Annotated[int, Field(ge=0, le=2**31)] = 0
    use_activation: bool | None = None

    def about(self, query: str, texts: tuple[str, ...], top: int | None = None) -> Asked:
        """One query and its documents."""
        return Asked(
            query,
            texts,
            model=self.model,
            top=top,
            raw=self.use_activation is False,
            max_tokens_per_doc=self.max_tokens_per_doc or None,
            max_tokens_per_query=self.max_tokens_per_query or None,
        )


class Request(Shared):
    """`POST /rerank` with `documents`; a number that is 0 limits nothing."""

    query: str
    documents: Texts
    top_n: Annotated[int, Field(ge=0, le=2**31)] = 0

    def asked(self) -> Asked:
        """As all dialects are asked."""
        return self.about(self.query, tuple(self.documents), self.top_n or None)


class Text(BaseModel):
    """A document."""

    text: str


class Result(BaseModel):
    """A document's place and score."""

    index: int
    document: Text
    relevance_score: float


class Response(BaseModel):
    """What `/rerank` with `documents` gives."""

    id: str
    model: str
    usage: Usage
    results: list[Result]


class Score(Shared):
    """`POST /score`: one text with each of the other side, or as many on both."""

    text_1: str | Texts
    text_2: str | Texts

    def pairs(self) -> list[Asked]:
        """What is asked: one query with all its documents, or pairs, one request each.

        Raises:
            InputError: when neither side is one text and they differ in number.
        """
        first, second = ([side] if isinstance(side, str) else side for side in (self.text_1, self.text_2))
        if len(first) == 1:
            return [self.about(first[0], tuple(second))]
        if len(second) == 1:
            second = second * len(first)
        if len(first) != len(second):
            raise InputError(f"text_1 has {len(first)} texts and text_2 {len(second)}; give one, or as many")
        return [self.about(query, (text,)) for query, text in zip(first, second, strict=True)]


class Scored(BaseModel):
    """The score of a pair."""

    index: int
    object: str
    score: float


class Scores(BaseModel):
    """What `/score` gives, in the order asked."""

    id: str
    object: str
    created: int
    model: str
    data: list[Scored]
    usage: Usage


class Fault(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: int


class Error(BaseModel):
    """What went wrong, as OpenAI wraps it."""

    error: Fault


def answer(request: Request, answered: Answered) -> Object:
    """Best first, with the documents."""
    return {
        "id": answered.request_id,
        "model": answered.model,
        "usage": usage(answered.tokens),
        "results": [
            {"index": hit.index, "document": {"text": request.documents[hit.index]}, "relevance_score": hit.score}
            for hit in answered.hits
        ],
    }


def scores(answers: list[Answered]) -> Object:
    """The scores of pairs, in the order asked."""
    in_order = [hit.score for each in answers for hit in sorted(each.hits, key=lambda hit: hit.index)]
    return {
        "id": answers[0].request_id,
        "object": "list",
        "created": int(time.time()),
        "model": answers[0].model,
        "data": [{"index": index, "object": "score", "score": score} for index, score in enumerate(in_order)],
        "usage": usage(sum(each.tokens for each in answers)),
    }


def error(status: int, message: str, request_id: str) -> Object:
    """vLLM's and OpenAI's error."""
    try:
        kind = HTTPStatus(status).phrase.replace(" ", "") + ("Error" if status < 500 else "")
    except ValueError:
        kind = "Error"
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}
