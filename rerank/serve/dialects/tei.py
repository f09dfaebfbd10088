"""Text Embeddings Inference: `texts` in, a bare list out (https://huggingface.github.io/text-embeddings-inference)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from rerank.serve.asked import Answered, Asked
from rerank.serve.dialects.fields import Body, Object, Texts

__all__ = ["Error", "Rank", "Request", "answer", "error", "info"]

KINDS = {413: "Validation", 422: "Validation", 424: "Backend", 429: "Overloaded", 503: "Unhealthy", 504: "Overloaded"}
"""TEI's name for what went wrong, by status."""


class Request(Body):
    """`POST /rerank` with `texts`."""

    query: str
    texts: Texts
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool | None = None
    truncation_direction: Literal["Left", "Right", "left", "right"] = "Right"

    def asked(self) -> Asked:
        """As all dialects are asked; who says nothing of truncation has long texts cut."""
        return Asked(
            self.query,
            tuple(self.texts),
            raw=self.raw_scores,
            truncate=self.truncate is not False,
            keep_end=self.truncate is not False and self.truncation_direction.lower() == "left",
        )


class Rank(BaseModel):
    """A text's place and score."""

    index: int
    score: float
    text: str | None = None


class Error(BaseModel):
    """What went wrong."""

    error: str
    error_type: str


def answer(request: Request, answered: Answered) -> list[Object]:
    """Best first."""
    return [
        {"index": hit.index, "score": hit.score, **({"text": request.texts[hit.index]} if request.return_text else {})}
        for hit in answered.hits
    ]


def error(status: int, message: str, request_id: str) -> Object:
    """TEI's error."""
    return {"error": message, "error_type": KINDS.get(status, "Validation" if status < 500 else "Backend")}


def info(model: Object) -> Object:
    """`GET /info`: the server's first model, as TEI describes one.

    Args:
        model: what the server knows of it.
    """
    return {
        "model_id": model["id"],
        "model_sha": None,
        "model_dtype": model["dtype"],
        "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
        "max_concurrent_requests": model["queue"],
        "max_input_length": model["max_tokens"],
        "max_batch_tokens": model["token_budget"],
        "max_batch_requests": model["at_once"],
        "max_client_batch_size": model["max_documents"],
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": model["version"],
        "sha": None,
        "docker_label": None,
    }
