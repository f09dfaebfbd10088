"""Jina: `POST /jina/v1/rerank`, which returns documents unless it is told not to (https://jina.ai/reranker)."""

from __future__ import annotations

from pydantic import BaseModel

from rerank.serve.asked import Answered, Asked
from rerank.serve.dialects import union
from rerank.serve.dialects.fields import Body, Count, Documents, Object, usage

__all__ = ["Error", "Request", "Response", "answer", "error"]


class Request(Body):
    """`POST /jina/v1/rerank`. A document is a text, or an object with one."""

    query: str
    documents: Documents
    model: str | None = None
    top_n: Count | None = None
    return_documents: bool = True
    truncation: bool = True
    max_doc_length: Count | None = None
    max_query_length: Count | None = None

    def asked(self) -> Asked:
        """As all dialects are asked.

        Raises:
            InputError: when a document has no text.
        """
        asked = union.Request(query=self.query, documents=self.documents, model=self.model, top_n=self.top_n)
        asked.truncate = self.truncation
        asked.max_tokens_per_doc, asked.max_tokens_per_query = self.max_doc_length, self.max_query_length
        return asked.asked()


class Response(BaseModel):
    """What `/jina/v1/rerank` gives."""

    model: str
    object: str
    usage: Object
    results: list[union.Result]


class Error(BaseModel):
    """What went wrong."""

    detail: str


def answer(request: Request, answered: Answered) -> Object:
    """Best first, with the documents by default."""
    documents = request.documents if request.return_documents else None
    return {
        "model": answered.model,
        "object": "list",
        "usage": usage(answered.tokens),
        "results": union.results(answered, documents),
    }


def error(status: int, message: str, request_id: str) -> Object:
    """Jina's error."""
    return {"detail": message}
