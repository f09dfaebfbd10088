"""Where the page stands, and the three questions that it asks beyond those of every client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from rerank.cost import UNITS
from rerank.questions import Plan
from rerank.serve.asked import Answered, Asked
from rerank.serve.dialects import union
from rerank.serve.models import Models
from rerank.serve.page.collections import Collections
from rerank.serve.page.steps import Steps

__all__ = ["add_page"]

Answer = Callable[[Request, Asked, Callable[[Plan], Plan]], Awaitable[Answered]]
"""Ranks a request's documents, and lets somebody listen to the plan."""

FILES = {
    "/": ("page.html", "text/html"),
    "/ui/page.css": ("page.css", "text/css"),
    "/ui/page.js": ("page.js", "text/javascript"),
}
"""They want no key: they hold nothing, and the page has a field for one."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""It loads nothing from elsewhere and sends nothing elsewhere."""


def add_page(app: FastAPI, models: Models, answer: Answer) -> None:
    """Put the page at `/`.

    Args:
        app: the server's.
        models: that it serves.
        answer: ranks a request's documents; its errors are those of the server.
    """
    collections = Collections(models.settings.collections)
    for path, (name, kind) in FILES.items():
        app.get(path, include_in_schema=False)(_file(name, kind))

    @app.post("/ui/explain", include_in_schema=False)
    async def explain(request: Request, body: union.Request) -> Response:
        """What `/v1/rerank` gives, and how it came about."""
        steps, started = Steps(), time.perf_counter()
        answered = await answer(request, body.asked(), steps.listening)
        return JSONResponse(_explained(models, answered, steps, time.perf_counter() - started))

    @app.get("/ui/collections", include_in_schema=False)
    async def listed() -> Response:
        """Collections and their queries."""
        return JSONResponse({"collections": await asyncio.to_thread(collections.listed)})

    @app.get("/ui/collections/{name:path}/{query_id}", include_in_schema=False)
    async def candidates(name: str, query_id: str) -> Response:
        """A query, and what a first stage finds for it."""
        return JSONResponse(await asyncio.to_thread(collections.candidates, name, query_id))


def _file(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    content = (resources.files(__package__) / name).read_bytes()

    async def file() -> Response:
        return Response(content, headers=HEADERS, media_type=f"{kind}; charset=utf-8")

    return file


def _explained(models: Models, answered: Answered, steps: Steps, seconds: float) -> dict[str, Any]:
    model = models.find(answered.model)
    cost = {name: amount for name, amount in answered.cost.items() if amount}
    return {
        "id": answered.request_id,
        "model": answered.model,
        "reranker": model.reranker.name,
        "algorithm": model.reranker.recipe.described,
        "scores": model.scores,
        "results": [
            {"index": hit.index, "relevance_score": hit.score, "measured": hit.measured, "passage": hit.passage}
            for hit in answered.hits
        ],
        "rounds": steps.rounds,
        "steps": steps.kept,
        "steps_left_out": steps.left_out,
        "cost": {name: {"amount": cost[name], "what": UNITS[name]} for name in UNITS if name in cost},
        "seconds": seconds,
        "warnings": list(answered.warnings),
    }
