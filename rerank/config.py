"""TOML into frozen dataclasses that check themselves; unknown keys are refused.

>>> @dataclass(frozen=True)
... class Window:
...     size: int = 20
>>> build(Window, {"sise": 10}, "mine.toml")
Traceback (most recent call last):
rerank.errors.ConfigError: mine.toml: no key is called 'sise'; did you mean 'size'?
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from rerank.errors import ConfigError, FileError, InputError
from rerank.registry import did_you_mean

__all__ = ["build", "convert", "parse", "read", "table"]

T = TypeVar("T")


def read(kind: type[T], path: str | Path) -> T:
    """A dataclass from a TOML file.

    Raises:
        FileError: when the file is missing or is no TOML.
        ConfigError: when a key is unknown or missing, or a value has the wrong type.
    """
    return build(kind, table(path), str(path))


def table(path: str | Path) -> dict[str, Any]:
    """A TOML file as a plain dict."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return parse(text, str(path))


def parse(text: str, where: str) -> dict[str, Any]:
    """TOML text as a plain dict; `where` names it in errors."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FileError(f"{where} is no TOML: {error}") from error


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """A dataclass from a dict; `where` begins every error."""
    known = {field.name: field for field in fields(kind) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: no key is called {key!r}{did_you_mean(key, known)}")
    missing = [name for name, field in known.items() if name not in values and _required(field)]
    if missing:
        raise ConfigError(f"{where}: the key {missing[0]!r} is missing")
    hints = get_type_hints(kind)
    made = {key: convert(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    try:
        return kind(**made)
    except InputError as error:
        raise ConfigError(f"{where}: {error}") from error


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def convert(hint: Any, value: Any, where: str) -> Any:
    """A value of TOML as a type hint wants it: a whole number for a float, text for a path, a table for a dataclass.

    Raises:
        ConfigError: when the value is of another type; begins with `where`.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        return _convert_union(args, value, where)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return build(hint, value, where)
    if origin in (tuple, Sequence) and isinstance(value, (list, tuple)):
        return tuple(convert(args[0], part, f"{where}[{index}]") for index, part in enumerate(value))
    if origin in (dict, Mapping) or (origin is not None and issubclass(origin, Mapping)):
        if isinstance(value, Mapping):
            return {key: convert(args[1], part, f"{where}.{key}") for key, part in value.items()}
        raise _wrong(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise _wrong(hint, value, where)


def _convert_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and NoneType in args:
        return None
    kinds = [arg for arg in args if arg is not NoneType]
    if len(kinds) == 1:
        return convert(kinds[0], value, where)
    for kind in kinds:
        with suppress(ConfigError):
            return convert(kind, value, where)
    raise _wrong(kinds, value, where)


def _wrong(hint: Any, value: Any, where: str) -> ConfigError:
    hints = hint if isinstance(hint, list) else [hint]
    wanted = " or ".join(getattr(one, "__name__", str(one)) for one in hints)
    return ConfigError(f"{where} is {value!r}; it must be of type {wanted}")
