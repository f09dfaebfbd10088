"""The server as a process, or several."""

from __future__ import annotations

import os
import signal
from typing import Any

import uvicorn
from fastapi import FastAPI

from rerank.errors import RerankError
from rerank.serve.app import create_app
from rerank.serve.logs import configure
from rerank.serve.settings import Settings

__all__ = ["application", "run", "server_for"]


def run(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; what was accepted before is answered.

    Raises:
        RerankError: when a model cannot be loaded.
        OSError: when the port is taken.
    """
    configure(settings.log_level, text=settings.log_text)
    if settings.workers > 1:
        settings.hand_on()
        uvicorn.run("rerank.serve.running:application", factory=True, workers=settings.workers, **_options(settings))
        return
    server, app = server_for(settings)
    server.run()
    if (failure := app.state.models.failure) is not None:
        raise failure if isinstance(failure, RerankError) else RerankError(str(failure)) from failure


def server_for(settings: Settings, app: FastAPI | None = None) -> tuple[uvicorn.Server, FastAPI]:
    """A server that is not yet running; it ends by itself when a model cannot be loaded.

    Args:
        settings: what it is told.
        app: already made of them; a new one by default.
    """

    def stop() -> None:
        server.should_exit = True

    app = app or create_app(settings, on_failure=stop)
    server = uvicorn.Server(uvicorn.Config(app, **_options(settings)))
    return server, app


def application() -> FastAPI:
    """What a worker process runs."""
    settings = Settings.handed_on()
    configure(settings.log_level, text=settings.log_text)
    return create_app(settings, load_first=True, on_failure=lambda: os.kill(os.getpid(), signal.SIGTERM))


def _options(settings: Settings) -> dict[str, Any]:
    """How uvicorn runs it: h11 bounds the headers of a request, which httptools does not."""
    return {
        "host": settings.host,
        "port": settings.port,
        "http": "h11",
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": settings.shutdown or None,
        "backlog": 2048,
    }
