"""How servers of rerankers are asked: what a request holds, and where its answer says which document has which score.

Requests differ; answers are read in all of their shapes, so that a server which answers in another's is understood.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from rerank import config
from rerank.errors import InputError, JudgeError
from rerank.judges.hosting.providers import address_parts
from rerank.registry import unknown

__all__ = ["DIALECTS", "Dialect", "Place", "Reply", "is_remote", "place", "read", "rerank_providers"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a request is written.

    Args:
        documents: what the list of texts is called.
        most: documents of a request, unless the user says another number.
        fields: what every request holds beside query, texts and model.
        source: where this was read.
    """

    documents: str
    most: int
    source: str
    fields: Mapping[str, Any] = field(default_factory=dict)


DIALECTS: Mapping[str, Dialect] = {
    "cohere": Dialect("documents", 1000, "https://docs.cohere.com/reference/rerank"),
    "jina": Dialect("documents", 1000, "https://api.jina.ai/redoc", {"return_documents": False}),
    "tei": Dialect(
        "texts", 32, "https://huggingface.github.io/text-embeddings-inference", {"truncate": True}
    ),  # a text that is too long fails its whole request there, unless it may be cut
    "voyage": Dialect("documents", 1000, "https://docs.voyageai.com/reference/reranker-api"),
}
"""By name. vLLM, infinity, sglang, LocalAI and others are asked as Jina is, at `/v1/rerank`."""

BY_PATH: Mapping[str, str] = {"/v2/rerank": "cohere", "/v1/rerank": "jina", "/rerank": "tei"}


@dataclass(frozen=True, slots=True)
class _Provider:
    address: str
    dialect: str
    source: str
    api_key_env: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reranker is served.

    Args:
        address: without the path that is asked.
        path: that is asked; "" where only the server's answers can tell.
        dialect: its name; "" where only the server's answers can tell.
        model: as the server calls it; "" leaves it out.
        api_key_env: the variable that holds the provider's key.
    """

    address: str
    path: str
    dialect: str
    model: str
    api_key_env: str = ""

    @property
    def most(self) -> int:
        """Documents of a request."""
        return DIALECTS[self.dialect or "tei"].most


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: a score for each document, in the order sent, and what the server says of its work."""

    scores: tuple[float, ...]
    tokens: int | None = None
    searches: float | None = None
    model: str = ""
    warnings: tuple[str, ...] = ()


@cache
def rerank_providers() -> Mapping[str, _Provider]:
    """Who is known by name."""
    file = resources.files(__package__) / "rerank_providers.toml"
    tables = config.parse(file.read_text(encoding="utf-8"), file.name)
    return MappingProxyType(
        {name: config.build(_Provider, table, f"{file.name}: {name}") for name, table in tables.items()}
    )


def is_remote(name: object) -> bool:
    """Whether a name says where a reranker is served: an address that ends in /rerank, or "cohere:MODEL" and kin."""
    if not isinstance(name, str):
        return False
    if name.startswith(("http://", "https://")):
        return name.partition("#")[0].rstrip("/").endswith("/rerank")
    return name.partition(":")[0] in rerank_providers() and ":" in name


def place(name: str, dialect: str | None = None) -> Place:
    """What a name stands for.

    Args:
        name: "cohere:MODEL", "ADDRESS#MODEL", or an address alone. An address without a path is asked where what
            serves there can be asked.
        dialect: a name in `DIALECTS`; by default what the path says.

    Raises:
        UnknownName: when there is no such dialect or provider.
        InputError: when the address is none, or holds a password or a key.
    """
    if dialect is not None and dialect not in DIALECTS:
        raise unknown("dialect of rerank servers", dialect, DIALECTS)
    if not name.startswith(("http://", "https://")):
        return _provided(name, dialect)
    address, _, model = name.partition("#")
    parts = address_parts(address)
    path = parts.path.rstrip("/")
    base, tail = (path.removesuffix("/rerank"), "/rerank") if path.endswith("/rerank") else (path, "")
    if base.endswith(("/v1", "/v2")) and tail:
        base, tail = base[:-3], base[-3:] + tail
    known = BY_PATH.get(tail, "") if tail != "/rerank" else ""  # many serve there, and only the server can tell
    return Place(f"{parts.scheme}://{parts.netloc}{base}", tail, dialect or known, model)


def read(found: Any, count: int) -> Reply:
    """An answer of any dialect.

    Raises:
        JudgeError: when it does not give each of `count` documents one finite score.
    """
    body: Mapping[str, Any] = found if isinstance(found, dict) else {}
    try:
        entries = found if isinstance(found, list) else body["results"] if "results" in body else body["data"]
        scores = {_index(entry["index"]): _score(entry) for entry in entries}
        usage, meta = body.get("usage") or {}, body.get("meta") or {}
        tokens, billed = usage.get("total_tokens"), meta.get("billed_units") or {}
        searches = billed.get("search_units")
        model, warnings = str(body.get("model") or ""), tuple(map(str, meta.get("warnings") or ()))
        spent = None if tokens is None else int(tokens), None if searches is None else float(searches)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise JudgeError(f"the server's answer cannot be read: {type(error).__name__}: {error}") from error
    if len(entries) != count or scores.keys() != set(range(count)):
        raise JudgeError(f"the server scored {len(scores.keys() & set(range(count)))} of {count} documents")
    return Reply(tuple(scores[index] for index in range(count)), *spent, model, warnings)


def _provided(name: str, dialect: str | None) -> Place:
    provider, colon, model = name.partition(":")
    if not colon:
        raise InputError(
            f"{name!r} says no server; write http://HOST/v1/rerank#MODEL, or PROVIDER:MODEL (providers are "
            f"{', '.join(rerank_providers())})"
        )
    if provider not in rerank_providers():
        raise unknown("provider of rerankers", provider, rerank_providers())
    known = rerank_providers()[provider]
    parts = place(known.address)
    return Place(parts.address, parts.path, dialect or known.dialect, model, known.api_key_env)


def _index(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"an index is {value!r}")
    return value


def _score(entry: Mapping[str, Any]) -> float:
    """Cohere's and Jina's word for it, or TEI's."""
    value = entry["relevance_score"] if "relevance_score" in entry else entry["score"]
    if isinstance(value, bool) or not math.isfinite(score := float(value)):
        raise ValueError(f"a score is {value!r}")
    return score
