"""Around every request: its id, its line in the log, its key, and the size of its body."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import time
import uuid
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rerank.serve.dialects import error_at
from rerank.serve.logs import event
from rerank.serve.metrics import Metrics
from rerank.serve.models import Models
from rerank.serve.settings import Settings

__all__ = ["SIDE", "ApiKeys", "Bodies", "Record", "Requests", "error_response"]

OPEN = frozenset({"/", "/ui/page.css", "/ui/page.js", "/health", "/ready", "/metrics", "/docs", "/openapi.json"})
"""Paths that want no key."""

SIDE = "rerank.side"
"""In the scope: which of the two kinds of body stands at `/rerank`."""

SENT_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class Record(dict[str, Any]):
    """What is known of a request while it is answered; stands in the scope under "rerank"."""

    @classmethod
    def of(cls, scope: Scope) -> Record:
        """The record of a request."""
        found: Record = scope["rerank"]
        return found


class Escaped(JSONResponse):
    """JSON in ASCII, so that whatever stood in a request can stand in the error about it."""

    def render(self, content: Any) -> bytes:
        """The body."""
        import json

        return json.dumps(content).encode("ascii")


def error_response(scope: Scope, status: int, message: str, *, retry_after: int | None = None) -> Escaped:
    """An error in the words of the path's clients."""
    content = error_at(
        scope["path"], status, message, Record.of(scope)["request_id"], documents=scope.get(SIDE) == "documents"
    )
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Escaped(content, status, headers)


class Requests:
    """Gives every request an id, writes a line when it has ended, and counts it; the last of a connection closes it."""

    def __init__(self, app: ASGIApp, models: Models, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app, self._models, self._metrics, self._paths = app, models, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        sent = _header(scope, b"x-request-id")
        record = scope["rerank"] = Record(request_id=sent if SENT_ID.fullmatch(sent) else uuid.uuid4().hex)
        started, status = time.perf_counter(), 499

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                end = [(b"connection", b"close")] if self._models.ending else []
                message["headers"] = [*message["headers"], (b"x-request-id", record["request_id"].encode()), *end]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            status = 500
            event("a bug", logging.ERROR, error, request_id=record["request_id"], path=scope["path"])
            await error_response(scope, 500, "an error of the server; its log has more")(scope, receive, sending)
        finally:
            self._end(scope, record, status, time.perf_counter() - started)

    def _end(self, scope: Scope, record: Record, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._metrics.requests.labels(path, str(status)).inc()
        if "model" in record:
            self._metrics.seconds.labels(path, record["model"]).observe(seconds)
            self._metrics.documents.labels(record["model"]).observe(record["documents"])
        level = logging.DEBUG if path in ("/health", "/ready", "/metrics") else logging.INFO
        client = scope["client"][0] if scope.get("client") else None
        about = {"method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 4)}
        event("request", level, **record, **about, client=client)


class ApiKeys:
    """Lets in who brings a key. Every key is compared, in constant time, so that time tells nothing of them."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._keys:
            scheme, _, brought = _header(scope, b"authorization").partition(" ")
            known = self._known(brought.strip().encode("latin-1")) if scheme.lower() == "bearer" else None
            Record.of(scope)["key"] = known
            preflight = scope["method"] == "OPTIONS"
            if known is None and scope["path"] not in OPEN and not preflight:
                response = error_response(scope, 401, "this server wants a key: Authorization: Bearer KEY")
                return await response(scope, receive, send)
        return await self._app(scope, receive, send)

    def _known(self, brought: bytes) -> str | None:
        matches = [hmac.compare_digest(key, brought) for key in self._keys]
        return hashlib.sha256(brought).hexdigest()[:8] if any(matches) else None


class Bodies:
    """Reads bodies, up to a size and within a time, so that nobody behind it has to."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._most, self._seconds = app, settings.max_body, settings.deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return await self._app(scope, receive, send)
        declared = _header(scope, b"content-length")
        if declared.isdigit() and len(declared) < 20 and int(declared) > self._most:
            return await self._refuse(scope, receive, send)
        try:
            body = await asyncio.wait_for(self._read(receive), self._seconds)
        except TimeoutError:
            return await error_response(scope, 408, "the body did not arrive in time")(scope, receive, send)
        if body is None:
            return None
        if len(body) > self._most:
            return await self._refuse(scope, receive, send)
        left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return left.pop() if left else await receive()

        return await self._app(scope, again, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, or more of it than is allowed; None when the client has gone."""
        parts: list[bytes] = []
        while sum(map(len, parts)) <= self._most:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        return b"".join(parts)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"the body is larger than {self._most} bytes; send fewer documents in a request"
        await error_response(scope, 413, message)(scope, receive, send)


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
