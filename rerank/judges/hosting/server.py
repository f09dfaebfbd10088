"""One server over HTTP: requests out, JSON in; what went wrong is told in its own words, and never with the key."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from rerank.errors import JudgeError, Transient

__all__ = ["Refused", "Server"]

IN_PASSING = frozenset({408, 409, 425, 429})
"""Statuses of a request that may be answered a little later; so may all from 500 up."""

FOR_GOOD = frozenset({401, 402, 404})
"""Statuses that the next request gets as well: no key, no money, no such model."""

LONGEST_QUOTE = 300


class Refused(JudgeError):
    """What any other question would be told as well."""


class Server:
    """A server that is sent JSON and answers with it.

    Args:
        base_url: what paths are put behind.
        key: sent as a bearer token; shown nowhere.
        timeout: seconds in which it must connect, and in which it must send something.
        connections: that are kept open for further requests.
    """

    def __init__(self, base_url: str, *, key: str | None = None, timeout: float = 60.0, connections: int = 8) -> None:
        self.base_url, self.timeout, self._key = base_url, timeout, key
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=connections))
        self._session.auth = self._authorised  # ours, or a ~/.netrc would put another one in its place

    def __repr__(self) -> str:
        return f"<Server {self.base_url}>"

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a request is answered with.

        Raises:
            Transient: when it may be answered later: a busy server, a broken connection, no answer in time.
            Refused: when no request will be answered: a wrong key, no such model.
            JudgeError: when this one is not, or the answer is no JSON object.
        """
        return self._object(self.ask("POST", path, body))

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The same for servers whose answers may be lists too. Errors as of `post`, but that any JSON will do."""
        return self._asked(method, path, None if body is None else json.dumps(body).encode())

    def models(self) -> list[str]:
        """The names of the models that it says it serves. Errors as of `post`."""
        listed = self._object(self.ask("GET", "/models")).get("data")
        return [str(model.get("id")) for model in listed if isinstance(model, dict)] if isinstance(listed, list) else []

    def close(self) -> None:
        """Let go of its connections."""
        self._session.close()

    def _asked(self, method: str, path: str, body: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        try:
            response = self._session.request(
                method, self.base_url + path, data=body, headers=headers, timeout=self.timeout, allow_redirects=False
            )
        except requests.Timeout:
            raise Transient(f"{self.base_url} gave no answer in {self.timeout:g} s") from None
        except requests.exceptions.SSLError as error:
            raise Refused(f"{self.base_url} is not trusted: {self._clean(_reason(error))}") from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise Transient(f"the connection to {self.base_url} failed: {self._clean(_reason(error))}") from None
        except requests.RequestException as error:
            raise Refused(f"{self.base_url} cannot be asked: {self._clean(_reason(error))}") from None
        if response.status_code != 200:
            raise self._error(response)
        return self._json(response)

    def _json(self, response: requests.Response) -> Any:
        try:
            found = json.loads(response.content)
        except (ValueError, RecursionError):
            raise JudgeError(f"{self.base_url} answered what is no JSON: {self._quoted(response)}") from None
        if isinstance(found, dict) and found.get("error") and "choices" not in found:  # some say so with status 200
            raise JudgeError(f"{self.base_url} answered with an error: {self._clean(_message(found))}")
        return found

    def _object(self, found: Any) -> dict[str, Any]:
        if not isinstance(found, dict):
            raise JudgeError(f"{self.base_url} answered what is no JSON object: {self._clean(json.dumps(found))}")
        return found

    def _error(self, response: requests.Response) -> JudgeError:
        status, said = response.status_code, self._quoted(response)
        text = f"HTTP {status} from {self.base_url}: {said}"
        if status in FOR_GOOD or (status == 429 and "insufficient_quota" in response.text):
            return Refused(text)
        if status in IN_PASSING or status >= 500:
            return Transient(text, retry_after=_wait(response.headers))
        return JudgeError(text)

    def _quoted(self, response: requests.Response) -> str:
        """What a response says, in one line."""
        try:
            said = _message(json.loads(response.content))
        except (ValueError, RecursionError):
            said = response.text
        return self._clean(said or str(response.reason or "nothing more"))

    def _clean(self, text: str) -> str:
        """One line, not too long, in which the key is not to be seen."""
        shown = text.replace(self._key, "(the key)") if self._key else text
        line = " ".join(shown.split())
        return line if len(line) <= LONGEST_QUOTE else f"{line[:LONGEST_QUOTE]} …"

    def _authorised(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _message(found: Any) -> str:
    """What servers call the message of an error: {"error": {"message"}}, {"error"}, {"detail"}, {"message"}."""
    for name in ("error", "detail", "message"):
        if isinstance(found, dict) and found.get(name):
            return _message(found[name])
    return found if isinstance(found, str) else json.dumps(found)


def _reason(error: BaseException) -> str:
    """The innermost cause: "Connection refused"."""
    while (inner := error.__cause__ or error.__context__ or getattr(error, "reason", None)) is not None:
        if not isinstance(inner, BaseException):
            break
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After asks for, which are a number or a date; None when it says neither."""
    said = headers.get("Retry-After", "").strip()
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
