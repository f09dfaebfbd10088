"""Cohere's second version: `POST /v2/rerank`, which never returns documents (https://docs.cohere.com/reference/rerank)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from rerank.serve.asked import Answered, Asked
from rerank.serve.dialects.fields import Body, Count, Object, Texts

__all__ = ["Error", "Request", "Response", "answer", "error", "meta"]

SEARCH_UNIT = 100
"""Documents that Cohere bills as one search unit."""


class Request(Body):
    """`POST /v2/rerank`."""

    query: str
    documents: Texts
    model: str | None = None
    top_n: Count | None = None
    max_tokens_per_doc: Count | None = None
    priority: Annotated[int, Field(ge=0, le=0)] = 0  # another would be passed over

    def asked(self) -> Asked:
        """As all dialects are asked."""
        return Asked(
            self.query,
            tuple(self.documents),
            model=self.model,
            top=self.top_n,
            max_tokens_per_doc=self.max_tokens_per_doc,
        )


class Result(BaseModel):
    """A document's place and score."""

    index: int
    relevance_score: float


class Response(BaseModel):
    """What `/v2/rerank` gives."""

    id: str
    results: list[Result]
    meta: Object


class Error(BaseModel):
    """What went wrong."""

    id: str
    message: str


def answer(request: Request, answered: Answered) -> Object:
    """Best first."""
    results = [{"index": hit.index, "relevance_score": hit.score} for hit in answered.hits]
    return {"id": answered.request_id, "results": results, "meta": meta("2", len(request.documents), answered)}


def meta(version: str, documents: int, answered: Answered) -> Object:
    """What Cohere says beside the results; warnings where there are any."""
    units = {"api_version": {"version": version}, "billed_units": {"search_units": -(-documents // SEARCH_UNIT)}}
    return {**units, "warnings": list(answered.warnings)} if answered.warnings else units


def error(status: int, message: str, request_id: str) -> Object:
    """Cohere's error."""
    return {"id": request_id, "message": message}
