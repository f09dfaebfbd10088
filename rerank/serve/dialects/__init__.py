"""One file for each kind of client: what it sends, what it gets, and how it is told of an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rerank.serve.dialects import cohere, jina, tei, union, vllm
from rerank.serve.dialects.fields import Object

__all__ = ["ERRORS", "error_at"]

ERRORS: Mapping[str, Callable[[int, str, str], Object]] = {
    "/rerank": tei.error,
    "/info": tei.error,
    "/v1/rerank": union.error,
    "/v2/rerank": cohere.error,
    "/jina/v1/rerank": jina.error,
}
"""How clients of a path are told of an error; everywhere else as vLLM and OpenAI do it."""


def error_at(path: str, status: int, message: str, request_id: str, *, documents: bool = False) -> Object:
    """An error in the words of a path's clients.

    Args:
        path: where the request went.
        status, message: HTTP's, and one line.
        request_id: of the request.
        documents: at `/rerank`, that vLLM's client asks and not TEI's.
    """
    if documents:
        return vllm.error(status, message, request_id)
    return ERRORS.get(path, vllm.error)(status, message, request_id)
