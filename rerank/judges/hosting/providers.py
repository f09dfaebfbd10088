"""Models of servers by name: "openai:gpt-4o-mini", "http://127.0.0.1:8000/v1#my-model"."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from urllib.parse import SplitResult, urlsplit

from rerank import config
from rerank.errors import InputError
from rerank.registry import unknown

__all__ = ["Hosting", "Provider", "address_parts", "api_key", "hosting", "is_hosted", "providers"]


@dataclass(frozen=True, slots=True)
class Provider:
    """Who serves models, and in what it differs from others.

    Args:
        base_url: what "/chat/completions" is put behind.
        api_key_env: the environment variable that holds the key; "" where none is wanted.
        length: what the most tokens to write are called in a request for a chat.
        leave_out: fields of a request that it refuses.
        source: where this was read.
    """

    base_url: str
    api_key_env: str = ""
    length: str = "max_tokens"
    leave_out: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Hosting:
    """A model at a server; the model is "" where the server has to say it."""

    provider: Provider
    model: str


@cache
def providers() -> Mapping[str, Provider]:
    """The providers that are known by name."""
    file = resources.files(__package__) / "providers.toml"
    tables = config.parse(file.read_text(encoding="utf-8"), file.name)
    return MappingProxyType(
        {name: config.build(Provider, table, f"{file.name}: {name}") for name, table in tables.items()}
    )


def is_hosted(name: object) -> bool:
    """Whether a name says where a model is served: an address, or a known provider in front of a colon."""
    text = str(name)
    return isinstance(name, str) and (text.startswith(("http://", "https://")) or text.partition(":")[0] in providers())


def hosting(name: str, base_url: str | None = None) -> Hosting:
    """What a name stands for.

    Args:
        name: "PROVIDER:MODEL", "ADDRESS#MODEL", or an address alone where one model is served; with `base_url`, the
            model as the server calls it.
        base_url: an address, or a provider's name.

    Raises:
        UnknownName: when there is no such provider.
        InputError: when the address is none, or holds a password or a key.
    """
    if base_url is not None:
        known = providers().get(base_url)
        return Hosting(known or Provider(_checked(base_url)), name)
    if name.startswith(("http://", "https://")):
        address, _, model = name.partition("#")
        return Hosting(Provider(_checked(address)), model)
    provider, colon, model = name.partition(":")
    if not colon or not model:
        raise InputError(
            f"{name!r} says no server; write PROVIDER:MODEL, http://HOST/v1#MODEL, or give base_url= (providers are "
            f"{', '.join(providers())})"
        )
    if provider not in providers():
        raise unknown("provider", provider, providers())
    return Hosting(providers()[provider], model)


def api_key(provider: Provider, variable: str | None) -> tuple[str | None, str]:
    """The key and the variable that it was read from; None where none is wanted.

    Raises:
        InputError: when a key is wanted, and the variable is not set or holds what no header can.
    """
    name = provider.api_key_env if variable is None else variable
    if not name:
        return None, ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise InputError(
            f"{provider.base_url} wants a key: set the environment variable {name}, or name another with api_key_env="
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise InputError(f"what the environment variable {name} holds is no key: it has spaces or other signs in it")
    return key, name


def address_parts(address: str) -> SplitResult:
    """An address in its parts.

    Raises:
        InputError: when it is none, or holds a password or a key.
    """
    parts = urlsplit(address)
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"base_url={_shown(address)!r} is no address; write one such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise InputError(
            f"the address of {parts.hostname} holds a password or a query; put a key into an environment variable and "
            "name it with api_key_env="
        )
    return parts


def _checked(address: str) -> str:
    """An address without what is put behind it; "/v1" where it has no path."""
    parts = address_parts(address)
    path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/chat").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _shown(address: str) -> str:
    """Without what may be a password."""
    return address.rpartition("@")[2]
