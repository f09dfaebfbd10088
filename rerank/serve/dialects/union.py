"""`POST /v1/rerank`: what Cohere's first version, Jina and vLLM say there, and what this toolkit has beyond them."""

from __future__ import annotations

from pydantic import BaseModel

from rerank.errors import InputError
from rerank.serve.asked import Answered, Asked
from rerank.serve.dialects import cohere
from rerank.serve.dialects.fields import Body, Count, Documents, Object, Texts, Usage, usage

__all__ = ["Error", "Request", "Response", "answer", "error", "results"]


class Request(Body):
    """`POST /v1/rerank`. A document is a text, or an object of which `rank_fields` are read ("text" by default)."""

    query: str
    documents: Documents
    model: str | None = None
    top_n: Count | None = None
    return_documents: bool = False
    rank_fields: Texts | None = None
    max_tokens_per_doc: Count | None = None
    max_tokens_per_query: Count | None = None
    truncate: bool = True
    raw_scores: bool = False
    instruction: str = ""
    long_documents: str | None = None
    window_tokens: Count | None = None
    stride_tokens: Count | None = None

    def asked(self) -> Asked:
        """As all dialects are asked.

        Raises:
            InputError: when a document lacks a field.
        """
        return Asked(
            self.query,
            tuple(_text(index, document, self.rank_fields) for index, document in enumerate(self.documents)),
            model=self.model,
            instruction=self.instruction,
            top=self.top_n,
            raw=self.raw_scores,
            truncate=self.truncate,
            max_tokens_per_doc=self.max_tokens_per_doc,
            max_tokens_per_query=self.max_tokens_per_query,
            long_documents=self.long_documents,
            window_tokens=self.window_tokens,
            stride_tokens=self.stride_tokens,
        )


class Result(BaseModel):
    """A document's place and score; the document where it is asked for."""

    index: int
    relevance_score: float
    document: Object | None = None


class Response(BaseModel):
    """What `/v1/rerank` gives."""

    id: str
    model: str
    results: list[Result]
    usage: Usage
    meta: Object


class Error(cohere.Error):
    """What went wrong, for Cohere's clients and for Jina's."""

    detail: str


def answer(request: Request, answered: Answered) -> Object:
    """Best first."""
    documents = request.documents if request.return_documents else None
    return {
        "id": answered.request_id,
        "model": answered.model,
        "results": results(answered, documents),
        "usage": usage(answered.tokens),
        "meta": cohere.meta("1", len(request.documents), answered),
    }


def results(answered: Answered, documents: list[str | dict[str, str]] | None) -> list[Object]:
    """A result for each hit, with its document as it was sent and, of a long one, the passage that scored best."""
    found = []
    for hit in answered.hits:
        result: Object = {"index": hit.index, "relevance_score": hit.score}
        if documents is not None:
            sent = documents[hit.index]
            result["document"] = {"text": sent} if isinstance(sent, str) else dict(sent)
            if hit.passage is not None:
                result["document"]["passage"] = hit.passage
        found.append(result)
    return found


def error(status: int, message: str, request_id: str) -> Object:
    """Cohere's `message` and Jina's `detail`, for the clients of both come here."""
    return {"id": request_id, "message": message, "detail": message}


def _text(index: int, document: str | dict[str, str], fields: list[str] | None) -> str:
    if isinstance(document, str):
        return document
    parts = [document.get(name) for name in fields or ["text"]]
    for name, part in zip(fields or ["text"], parts, strict=True):
        if not isinstance(part, str):
            raise InputError(
                f"document {index} has no text {name!r}; it has {', '.join(map(repr, document)) or 'nothing'}"
            )
    return "\n".join(part for part in parts if isinstance(part, str))
