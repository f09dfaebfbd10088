"""Servers of rerankers on loopback, as Cohere, Jina and TEI document theirs: they refuse what those do not know.

A document's score is how many of the query's words it holds, and a little more for a longer one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class CohereRequest(Strict):
    model: str
    query: str
    documents: list[str]
    top_n: int | None = None
    max_tokens_per_doc: int = 4096


class JinaRequest(Strict):
    model: str
    query: str
    documents: list[str]
    top_n: int | None = None
    return_documents: bool = True
    instruction: str | None = None


class TeiRequest(Strict):
    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool = False
    truncation_direction: str = "Right"


def scores(query: str, documents: list[str]) -> list[float]:
    """Words in common, of both in lower case."""
    wanted = set(query.lower().split())
    return [len(wanted & set(text.lower().split())) + len(text) / 1e6 for text in documents]


def best_first(values: list[float]) -> list[int]:
    """Indices, as all of these servers sort what they answer."""
    return sorted(range(len(values)), key=lambda index: -values[index])


class RerankServer:
    """`asked` holds the path, the body and the headers of every request for a ranking."""

    def __init__(self, *dialects: str, tei_batch: int = 32) -> None:
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.app = FastAPI()
        self.app.add_exception_handler(RequestValidationError, self._refused)  # type: ignore[arg-type]
        self.app.middleware("http")(self._kept)
        self.faults: list[JSONResponse] = []
        self.tei_batch = tei_batch
        for dialect in dialects:
            getattr(self, f"_{dialect}")()

    async def _kept(self, request: Request, go_on: Any) -> Any:
        if request.method == "POST":
            self.asked.append((request.url.path, await request.json(), dict(request.headers)))
            if self.faults:
                return self.faults.pop(0)
        return await go_on(request)

    async def _refused(self, request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"message": str(error.errors()[0]["msg"]) + f" {error.errors()[0]['loc']}"}, 422)

    def _cohere(self) -> None:
        @self.app.post("/v2/rerank")
        def rerank(request: CohereRequest) -> Any:
            values = scores(request.query, request.documents)
            results = [{"index": index, "relevance_score": values[index] / 10} for index in best_first(values)]
            billed = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
            return {"id": "1", "results": results[: request.top_n], "meta": billed}

    def _jina(self) -> None:
        @self.app.post("/v1/rerank")
        def rerank(request: JinaRequest) -> Any:
            values = scores(f"{request.query} {request.instruction or ''}", request.documents)
            results = [
                {"index": index, "relevance_score": values[index] / 10}
                | ({"document": {"text": request.documents[index]}} if request.return_documents else {})
                for index in best_first(values)
            ]
            return {"model": request.model, "usage": {"total_tokens": 12}, "results": results[: request.top_n]}

    def _tei(self) -> None:
        @self.app.get("/info")
        def info() -> Any:
            return {"model_id": "a-model", "max_client_batch_size": self.tei_batch}

        @self.app.post("/rerank")
        def rerank(request: TeiRequest) -> Any:
            if len(request.texts) > self.tei_batch:
                said = f"batch size {len(request.texts)} > maximum allowed batch size {self.tei_batch}"
                return JSONResponse({"error": said, "error_type": "Validation"}, 413)
            if not request.truncate and any(len(text) > 1000 for text in request.texts):
                return JSONResponse({"error": "inputs must have less than 512 tokens", "error_type": "Validation"}, 413)
            values = scores(request.query, request.texts)
            return [{"index": i, "score": values[i] * (1 if request.raw_scores else 0.1)} for i in best_first(values)]


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The address of an app that is served until the end of the block."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
