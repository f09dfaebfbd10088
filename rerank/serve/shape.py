"""What a body looks like from outside, looked at before its parts are: who sends a million faults is told of one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from rerank.serve.asked import Refused
from rerank.serve.middleware import SIDE

__all__ = ["Shaped", "check_parts", "check_shape", "side_of"]

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
                most = request.app.state.models.settings.max_documents
                check_parts(await request.body(), most)
                body = await _parsed(request)
                request.scope[SIDE] = side_of(body) if self.path == "/rerank" else None
                check_shape(body, most)
            return await checked(request)

        return handler


async def _parsed(request: Request) -> object:
    try:
        return await request.json()
    except (ValueError, RecursionError):  # the path says so in its own words
        return None


def side_of(body: object) -> str | None:
    """Whose request stands at /rerank: "texts" (TEI's), "documents" (vLLM's), or None where that cannot be told."""
    sides = [name for name in ("texts", "documents") if isinstance(body, dict) and name in body]
    return sides[0] if len(sides) == 1 else None


def check_parts(body: bytes, most: int) -> None:
    """Refuse, before it is parsed, a body of more values than any request has: a million lists take seconds to make.

    Without its escapes, every second piece between quotes stands outside of texts, and its commas part values.

    Args:
        body: as it came.
        most: documents of a request.

    Raises:
        Refused: 413 for too many values, 400 for a zero byte, which JSON in UTF-8 does not have.
    """
    if b"\0" in body:
        raise Refused(400, "the body has a zero byte; send JSON in UTF-8")
    values = MOST_FIELDS * (most + 2)
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"")
    many = plain.count(b'"') > 4 * values  # two texts a value at most: its name, and itself
    if many or b"".join(plain.split(b'"')[::2]).count(b",") > values:
        raise Refused(413, f"the body has more than {values} values; send at most {most} documents in a request")


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
