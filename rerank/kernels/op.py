"""An op *is* its torch function; providers are faster ways of computing the same, and are tested against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from rerank.registry import unknown

__all__ = ["Op", "Provider"]


@dataclass(frozen=True)
class Provider:
    """One way of computing an op.

    Args:
        name: "reference", "triton" …
        run: the function; same arguments and results as the reference.
        supports: (the op's arguments) -> True when `run` can take these, on this device.
        when_asked: True when it is used within `using` alone, because nobody has shown yet that it is faster.
    """

    name: str
    run: Callable[..., Any]
    supports: Callable[..., bool]
    when_asked: bool = False


class Op:
    """A function with providers. Calling it uses the first provider, the latest added first, that supports the call.

    Args:
        reference: the definition, in plain torch; supports everything.
    """

    def __init__(self, reference: Callable[..., Any]) -> None:
        self.name = reference.__name__
        self.__doc__ = reference.__doc__
        self._providers = {"reference": Provider("reference", reference, lambda *args, **options: True)}
        self._forced: ContextVar[str | None] = ContextVar(f"provider of {self.name}", default=None)

    @property
    def providers(self) -> Mapping[str, Provider]:
        """By name, the reference first."""
        return dict(self._providers)

    def add(
        self, name: str, run: Callable[..., Any], supports: Callable[..., bool], *, when_asked: bool = False
    ) -> None:
        """Add a provider; it is preferred to those added before it, unless it waits to be asked for."""
        self._providers[name] = Provider(name, run, supports, when_asked)

    def pick(self, *args: Any, **options: Any) -> Provider:
        """The provider that a call with these arguments would use."""
        if (forced := self._forced.get()) is not None:
            return self._providers[forced]
        willing = (provider for provider in reversed(self._providers.values()) if not provider.when_asked)
        return next(provider for provider in willing if provider.supports(*args, **options))

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Within the block every call uses this provider, whatever it says it supports.

        Raises:
            UnknownName: when the op has no such provider.
        """
        if name not in self._providers:
            raise unknown(f"provider of {self.name}", name, self._providers)
        token = self._forced.set(name)
        try:
            yield
        finally:
            self._forced.reset(token)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Compute the op."""
        return self.pick(*args, **options).run(*args, **options)

    def __repr__(self) -> str:
        return f"<Op {self.name}: {', '.join(self._providers)}>"
