"""The server as an ASGI application: every path, in the dialect of those who use it."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http import HTTPStatus
from types import FrameType
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import Discriminator, Tag
from starlette.exceptions import HTTPException

from rerank import __version__
from rerank.errors import DeadlineExceeded, InputError, JudgeError, RerankError, Transient
from rerank.questions import Plan
from rerank.rerankers.reranker import Reranker
from rerank.serve.asked import Answered, Asked, Refused
from rerank.serve.dialects import cohere, jina, tei, union, vllm
from rerank.serve.logs import event
from rerank.serve.metrics import Metrics
from rerank.serve.middleware import SIDE, ApiKeys, Bodies, Record, Requests, error_response
from rerank.serve.model import Caller
from rerank.serve.models import Models
from rerank.serve.page import add_page
from rerank.serve.settings import Settings
from rerank.serve.shape import Shaped, side_of

__all__ = ["create_app"]

REFUSALS = (400, 401, 404, 408, 413, 422, 429, 500, 503, 504)
"""Statuses of errors; 424 is TEI's own for a model that fails."""

MOST_SAID = 3
"""Faults of a body that an error names."""


Either = Annotated[
    Annotated[tei.Request, Tag("texts")] | Annotated[vllm.Request, Tag("documents")],
    Discriminator(
        side_of,
        custom_error_type="one_of_two",
        custom_error_message="send either texts (as to TEI) or documents (as to vLLM)",
    ),
]


def create_app(
    settings: Settings,
    rerankers: Sequence[Reranker] | None = None,
    *,
    load_first: bool = False,
    on_failure: Callable[[], None] | None = None,
) -> FastAPI:
    """The server.

    Args:
        settings: what it serves, and how much of it.
        rerankers: one for each of `settings.models`, where they are loaded already.
        load_first: take no connection before the models are there, for one of several processes, of which the others
            take it; alone, a server says meanwhile that it is not ready.
        on_failure: called when a model cannot be loaded; `app.state.models.failure` says why.
    """
    models = Models(settings, rerankers)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(models, on_failure))
        if load_first:
            await loading
        with _told_of_the_end(models):
            yield
        await loading
        await asyncio.to_thread(models.close)
        event("stopped")

    app = FastAPI(title="rerank-toolkit", version=__version__, lifespan=lifespan, redoc_url=None)
    app.router.route_class = Shaped
    app.state.models, app.state.metrics = models, Metrics(models)
    _add_ways(app, models)
    _add_facts(app, models)
    add_page(app, models, partial(_answered, models))
    _add_errors(app)
    _surround(app, settings)
    return app


@contextmanager
def _told_of_the_end(models: Models) -> Iterator[None]:
    """Notice a signal to end when it comes.

    uvicorn closes idle connections then, and tells the application when all others have ended. One that is accepted in
    the same moment it overlooks: a client that is never idle would be served on it for ever.
    """
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}

    def ending(number: int, frame: FrameType | None) -> None:
        models.ending = True
        before[signal.Signals(number)](number, frame)

    for number in before:
        signal.signal(number, ending)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _load(models: Models, on_failure: Callable[[], None] | None) -> None:
    await asyncio.to_thread(models.load)
    if models.failure is None:
        event("ready", models=[model.name for model in models.all])
        return
    event("a model cannot be loaded", logging.ERROR, models.failure, why=str(models.failure))
    if on_failure is not None:
        on_failure()


def _surround(app: FastAPI, settings: Settings) -> None:
    """What happens to a request before it is read; the last added is the first to see it."""
    app.add_middleware(Bodies, settings=settings)
    app.add_middleware(ApiKeys, keys=settings.api_keys)
    if settings.cors_origins:
        from starlette.middleware.cors import CORSMiddleware

        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.cors_origins), allow_methods=["*"], allow_headers=["*"]
        )
    paths = frozenset(route.path for route in app.routes if hasattr(route, "path"))
    app.add_middleware(Requests, models=app.state.models, metrics=app.state.metrics, paths=paths)


def _add_ways(app: FastAPI, models: Models) -> None:
    """Every way to have documents ranked."""

    async def ranked(request: Request, asked: Asked) -> Answered:
        return await _answered(models, request, asked)

    @app.post(
        "/rerank",
        response_model=list[tei.Rank] | vllm.Response,
        tags=["TEI", "vLLM"],
        responses=_errors(tei.Error | vllm.Error),
    )
    async def rerank(request: Request, body: Annotated[Either, Body()]) -> Response:
        """TEI's with `texts`, vLLM's with `documents`."""
        answered = await ranked(request, body.asked())
        if isinstance(body, tei.Request):
            return JSONResponse(tei.answer(body, answered))
        return JSONResponse(vllm.answer(body, answered))

    @app.post("/v1/rerank", response_model=union.Response, tags=["all"], responses=_errors(union.Error))
    async def v1_rerank(request: Request, body: union.Request) -> Response:
        """Cohere v1's, Jina's and vLLM's together, and all options of this server."""
        return JSONResponse(union.answer(body, await ranked(request, body.asked())))

    @app.post("/v2/rerank", response_model=cohere.Response, tags=["Cohere"], responses=_errors(cohere.Error))
    async def v2_rerank(request: Request, body: cohere.Request) -> Response:
        """Cohere v2's; documents are never returned."""
        return JSONResponse(cohere.answer(body, await ranked(request, body.asked())))

    @app.post("/jina/v1/rerank", response_model=jina.Response, tags=["Jina"], responses=_errors(jina.Error))
    async def jina_rerank(request: Request, body: jina.Request) -> Response:
        """Jina's; documents are returned by default."""
        return JSONResponse(jina.answer(body, await ranked(request, body.asked())))

    @app.post("/score", response_model=vllm.Scores, tags=["vLLM"], responses=_errors(vllm.Error))
    @app.post("/v1/score", response_model=vllm.Scores, tags=["vLLM"], responses=_errors(vllm.Error))
    async def score(request: Request, body: vllm.Score) -> Response:
        """The scores of pairs, in the order given."""
        pairs = body.pairs()
        model = models.find(body.model)
        if model.scores == "rank only":
            raise InputError(f"model {model.name!r} puts documents in order and does not score them; ask /v1/rerank")
        answers = await _together([ranked(request, pair) for pair in pairs])
        return JSONResponse(vllm.scores(answers))


def _errors(model: Any) -> dict[int | str, dict[str, Any]]:
    """For the description: what errors look like."""
    return {status: {"model": model, "description": HTTPStatus(status).phrase} for status in REFUSALS}


def _add_facts(app: FastAPI, models: Models) -> None:
    """What a server says of itself."""

    @app.get("/v1/models", tags=["facts"])
    def v1_models() -> dict[str, Any]:
        """The models, as OpenAI lists them, and what is known of each."""
        about = {"object": "model", "created": models.since, "owned_by": "rerank-toolkit"}
        return {"object": "list", "data": [{**about, **model.description} for model in models.all]}

    @app.get("/info", tags=["TEI"])
    def info() -> dict[str, Any]:
        """The first model, as TEI describes one."""
        return tei.info({**models.find(None).description, "version": __version__})

    @app.get("/health", tags=["facts"])
    def health() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/ready", tags=["facts"], responses={503: {"description": "models are being loaded"}})
    def ready() -> dict[str, Any]:
        """All models are loaded and warm."""
        return {"status": "ready", "model": models.find(None).name}

    @app.get("/metrics", tags=["facts"], response_class=Response)
    def metrics() -> Response:
        """For Prometheus."""
        return Response(app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _answered(
    models: Models, request: Request, asked: Asked, listen: Callable[[Plan], Plan] | None = None
) -> Answered:
    record = Record.of(request.scope)
    model = models.find(asked.model)
    record |= {"model": model.name, "documents": len(asked.texts)}
    if models.settings.log_text:
        record |= {"query": asked.query, "texts": list(asked.texts)}
    answered = await model.answer(asked, _caller(request, models.settings.deadline), listen)
    record["tokens"] = answered.tokens
    return answered


async def _together(asked: Sequence[Any]) -> list[Answered]:
    """All of them; when one fails the others are given up."""
    tasks = [asyncio.ensure_future(each) for each in asked]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _caller(request: Request, deadline: float) -> Caller:
    record = Record.of(request.scope)
    asked = request.headers.get("x-timeout-seconds")
    if asked is not None:
        deadline = min(deadline, _seconds(asked))
    client = record.get("key") or (request.client.host if request.client else None)

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return Caller(record["request_id"], client, deadline, gone)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"X-Timeout-Seconds is {text[:40]!r}; it is a number of seconds above 0")
    return seconds


def _add_errors(app: FastAPI) -> None:
    """Every error as a response in the path's dialect."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return _said(request, error.status, error.message, error.retry_after)

    @app.exception_handler(RerankError)
    async def known(request: Request, error: RerankError) -> Response:
        status, retry_after = _status(request.scope.get(SIDE) == "texts", error)
        Record.of(request.scope)["error"] = type(error).__name__
        return _said(request, status, str(error), retry_after)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _said(request, 422, _faults(error, 2 if request.scope.get(SIDE) else 1))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return _said(request, error.status_code, str(error.detail))


def _said(request: Request, status: int, message: str, retry_after: int | None = None) -> Response:
    return error_response(request.scope, status, message, retry_after=retry_after)


def _status(of_tei: bool, error: RerankError) -> tuple[int, int | None]:
    """The status of an error of ours, and when to come again."""
    if isinstance(error, InputError):
        return 422, None
    if isinstance(error, Transient):
        return 503, math.ceil(error.retry_after or 1)
    if isinstance(error, DeadlineExceeded):
        return 504, None
    if isinstance(error, JudgeError):
        return (424 if of_tei else 500), None
    return 500, None


def _faults(error: RequestValidationError, begin: int) -> str:
    """What was wrong with a body, in one line and without its texts; a place begins behind so many names."""
    said = []
    for fault in error.errors()[:MOST_SAID]:
        where = ".".join(str(part) for part in fault["loc"][begin:])[:100]
        what = "there is no such field" if fault["type"] == "extra_forbidden" else fault["msg"]
        said.append(f"{where}: {what}" if where else str(what))
    return "; ".join(said)
