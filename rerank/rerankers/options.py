"""Options shared out between an algorithm and a judge: each goes to whoever takes it, to both where both do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Any

from rerank import config, registry
from rerank.errors import InputError
from rerank.judges.choosing import keywords
from rerank.questions import Algorithm
from rerank.registry import did_you_mean
from rerank.types import Document, Query, Ranking

__all__ = ["ARGUMENTS", "NAMED", "check_asking", "defaults_of", "gathered", "opened", "shared_out", "spelled"]

NAMED = ("head", "window", "step")
"""Options that are arguments of `Reranker` too."""

ARGUMENTS = (
    "prompt",
    "targets",
    "max_tokens",
    "token_budget",
    "device",
    "dtype",
    "token_store",
    "compile",
    "deterministic",
    "quantize",
    "adapter",
    "device_map",
)
"""What a judge takes that is an argument of `Reranker`, and no option."""


def gathered(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What the user asked for: `options`, and those that have an argument of their own.

    Raises:
        InputError: when one is said in both ways, or is an argument and no option.
    """
    options = arguments.get("options") or {}
    if not isinstance(options, Mapping):
        raise InputError(f"options is {options!r}; give a mapping of names to values, such as {{'children': 3}}")
    named = {name: arguments[name] for name in NAMED if arguments.get(name) is not None}
    for name in options:
        if name in named:
            raise InputError(f"{name} is given twice: as {named[name]!r}, and in options as {options[name]!r}")
        if name in ARGUMENTS:
            raise InputError(f"{name} is no option but an argument of its own; take it out of options")
    return {**options, **named}


def shared_out(
    asked: Mapping[str, Any], presets: Mapping[str, Any], algorithm: Algorithm, judge: type | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the algorithm, and of the judge.

    Args:
        asked: by the user; each must be taken by one of the two.
        presets: a method's or a checkpoint's, which the user's replace; what nobody takes belongs to an algorithm or a
            judge that the user has replaced, and is left out.
        algorithm: that asks.
        judge: the class that answers; None when that is not known yet, and nobody can tell what it takes.

    Raises:
        InputError: when nobody takes an option, or a value is of another type.
    """
    asking = keywords(algorithm.plan)
    answering = {} if judge is None else keywords(judge)
    if judge is not None:
        _check_known(asked, asking, {name: one for name, one in answering.items() if name not in ARGUMENTS}, algorithm)
    together = {**presets, **asked}
    return _taken(together, asking), _taken(together, answering)


def check_asking(algorithm: Algorithm, options: Mapping[str, Any]) -> None:
    """Let the algorithm refuse its options, before a model is loaded for it.

    Raises:
        InputError: as the algorithm says.
    """
    asking = opened(options)
    graph = asking.get("graph")
    documents = [Document(name, name) for name in ("a", "b")] if graph is None else graph.documents[:2]
    plan = algorithm(Ranking.unscored(Query("check", "check"), documents), **asking)
    next(plan, None)
    plan.close()


def opened(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an algorithm with what they name in its place: a graph of the corpus for its folder.

    Raises:
        FileError: when there is no graph in the folder, or a torn one.
    """
    graph = options.get("graph")
    if not isinstance(graph, str | Path):
        return dict(options)
    return {**options, "graph": registry.load("graph", "corpus").open(graph)}


def defaults_of(algorithm: Algorithm) -> dict[str, Any]:
    """Every option of an algorithm with its default."""
    return {name: one.default for name, one in keywords(algorithm.plan).items()}


def spelled(options: Mapping[str, Any]) -> str:
    """Options in one line: "children=3,head=10"."""
    return ",".join(f"{name}={_spelled(options[name])}" for name in sorted(options))


def _spelled(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _taken(options: Mapping[str, Any], takes: Mapping[str, Parameter]) -> dict[str, Any]:
    """Those that are taken, as their hints want them."""
    return {
        name: config.convert(_hint(takes[name]), value, f"option {name!r}")
        for name, value in options.items()
        if name in takes
    }


def _hint(parameter: Parameter) -> Any:
    """Nothing is known of a hint that is missing, or cannot be evaluated outside of a type checker."""
    hint = parameter.annotation
    return Any if hint is Parameter.empty or isinstance(hint, str) else hint


def _check_known(
    asked: Iterable[str], asking: Mapping[str, Any], answering: Mapping[str, Any], algorithm: Algorithm
) -> None:
    for name in asked:
        if name not in asking and name not in answering:
            near = did_you_mean(name, [*asking, *answering])
            meant = near if near.startswith("; did") else ""
            takes = f"{algorithm.name} takes {_listed(asking)}, its judge {_listed(answering)}"
            raise InputError(f"{algorithm.name} and its judge take no option {name!r}{meant}; {takes}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
