"""A first stage from a name and options on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from rerank.cli.screen import wrong_usage
from rerank.errors import ConfigError, InputError

__all__ = ["bm25_options", "buildable", "given", "parse_options"]

Command = TypeVar("Command", bound=Callable[..., Any])


def bm25_options(command: Command) -> Command:
    """The options of BM25, and --option for those of any other retriever."""
    for decorate in (
        click.option(
            "--option",
            "others",
            multiple=True,
            metavar="KEY=VALUE",
            help="Any other option of the retriever, its value as in TOML; may be repeated.",
        ),
        click.option("--stemmer", metavar="NAME", help="BM25: porter, english or none.  [default: porter]"),
        click.option("--stop-words", metavar="NAME", help="BM25: english or none.  [default: english]"),
        click.option("--b", type=float, metavar="X", help="BM25: how much long texts are held back.  [default: 0.4]"),
        click.option("--k1", type=float, metavar="X", help="BM25: how slowly repetitions saturate.  [default: 0.9]"),
    ):
        command = decorate(command)
    return command


def given(options: Mapping[str, Any], others: tuple[str, ...]) -> dict[str, Any]:
    """The options that were given, by their names in Python.

    Raises:
        UsageError: when one is given by its own name and by --option too.
        InputError: as `parse_options` does.
    """
    named = {key: value for key, value in options.items() if value is not None}
    parsed = parse_options(others)
    if twice := sorted(named.keys() & parsed.keys()):
        raise wrong_usage(f"--{twice[0].replace('_', '-')} and --option {twice[0]}=… exclude each other")
    return named | parsed


def parse_options(others: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE into a dict; what is no TOML value is taken as text.

    Raises:
        UsageError: when a key is given twice.
        InputError: when there is no "=".
    """
    options: dict[str, Any] = {}
    for key, value in map(_parsed, others):
        if key in options:
            raise wrong_usage(f"--option {key}=… is given twice")
        options[key] = value
    return options


def buildable(name: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The retriever of a name, when it builds an index and knows these options; and the options as it wants them.

    Raises:
        UnknownName: when there is no such retriever.
        InputError: when it needs no index.
        ConfigError: when it does not know an option, or its value is of the wrong type.
    """
    from rerank import registry, stages

    retriever = registry.load("retriever", name)
    if not hasattr(retriever, "build"):
        raise InputError(f"the retriever {name!r} needs no index; call 'rerank retrieve' at once")
    taken = ("documents", "folder", "source", "total", "progress", "crew", "store")  # the command's to say
    known = [key for key in inspect.signature(retriever.build).parameters if key not in taken]
    for key in options:
        if key not in known:
            raise ConfigError(f"retriever {name!r}: no option is called {key!r}{registry.did_you_mean(key, known)}")
    return retriever, stages.converted(retriever.build, options, f"retriever {name!r}")


def _parsed(text: str) -> tuple[str, Any]:
    import tomllib

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--option {text!r} is not written KEY=VALUE")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value
