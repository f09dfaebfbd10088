"""What a body looks like from outside, looked at before its parts are: who sends a million faults is told of one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from rerank.serve.asked import Refused

__all__ = ["Shaped", "check_shape"]

MOST_FIELDS = 100
"""Of a body, or of a document that is an object."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Shaped(APIRoute):
    """A path whose bodies are counted before they are checked."""

    def get_route_handler(self) -> Handler:
        """Count, then do as every path does; what is read once is not read again."""
        checked = super().get_route_handler()

        async def handler(request: Request) -> Response:
            if self.body_field is not None:
                check_shape(await _parsed(request), request.app.state.models.settings.max_documents)
            return await checked(request)

        return handler


async def _parsed(request: Request) -> object:
    try:
        return await request.json()
    except (ValueError, RecursionError):  # the path says so in its own words
        return None


def check_shape(body: object, most: int) -> None:
    """Refuse a body with more documents, or fields, than a request may have.

    Args:
        body: as JSON has it.
        most: documents, or texts on either side of pairs.

    Raises:
        Refused: 413 for a list that is too long, 422 for too many fields.
    """
    if not isinstance(body, dict):
        return
    _check_fields("the body", body)
    for name, value in body.items():
        if isinstance(value, list):
            if len(value) > most:
                raise Refused(413, f"{len(value)} {name[:40]}; send at most {most} in a request")
            for index, each in enumerate(value):
                _check_fields(f"{name[:40]}.{index}", each)


def _check_fields(what: str, value: object) -> None:
    if isinstance(value, dict) and len(value) > MOST_FIELDS:
        raise Refused(422, f"{what} has {len(value)} fields; send at most {MOST_FIELDS}")
