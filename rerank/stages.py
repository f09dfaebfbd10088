"""One `[[stage]]` table of a pipeline file into a stage, and back; options are arguments of what makes the stage."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from rerank import config, registry
from rerank.errors import ConfigError, InputError, UnknownName

__all__ = ["KINDS", "check", "converted", "dump", "make"]

NAMED = {
    "algorithm": str,
    "calibration": str,
    "dates": str,
    "judge": str,
    "long_documents": str,
    "now": str,
    "preselect": str,
    "relevant": str,
    "similarity": str,
}
"""Options that may be objects in Python; a file can only name them."""

KINDS = ("retriever", "reranker", "step")
"""What a table may be: its key names the stage. A step orders candidates anew and asks no model."""


def make(table: Mapping[str, Any], dataset: object, where: str) -> tuple[Any, dict[str, Any]]:
    """The stage that a table describes, and the table with the default of every option filled in.

    `retriever = NAME` and `step = NAME` are made by the registered class's `of`, or else by its constructor;
    `reranker = NAME`, a checkpoint or a method, by that of `Reranker` with the name in front.
    Whatever has an argument `dataset` is given the dataset.
    `cutoff` is for the pipeline; every other key is an argument.

    Raises:
        ConfigError: when a key is unknown or missing, a value is of the wrong type, or a dataset is needed and there
            is none; begins with `where`.
        UnknownName: when no retriever, algorithm or judge has the name.
    """
    maker, arguments, options, resolved = _read(table, dataset, where)
    return maker(*arguments, **options), resolved


def check(table: Mapping[str, Any], dataset: object, where: str) -> None:
    """Refuse what `make` would refuse to begin, and what the stage's own `check` does: nothing is built or loaded.

    Raises:
        ConfigError, UnknownName: as `make` does.
    """
    maker, arguments, options, _ = _read(table, dataset, where)
    if (refuse := getattr(maker, "check", None)) is None:
        return
    try:
        refuse(*arguments, **options)
    except UnknownName as error:
        raise UnknownName(f"{where}: {error}") from error
    except InputError as error:
        raise ConfigError(f"{where}: {error}") from error


def converted(maker: Callable[..., Any], options: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Options from a file or the command line as the hints of what they are for want them.

    Raises:
        ConfigError: when one is of another type; begins with `what`.
    """
    hinted = inspect.unwrap(maker)
    hints = get_type_hints(hinted.__init__ if isinstance(hinted, type) else hinted)  # type: ignore[misc]
    hints |= {key: NAMED[key] for key in NAMED.keys() & hints.keys()}
    return {key: config.convert(hints.get(key, Any), value, f"{what}: {key}") for key, value in options.items()}


def dump(table: Mapping[str, Any]) -> str:
    """A `[[stage]]` table as TOML."""
    return "[[stage]]\n" + "".join(f"{key} = {_spelled(value)}\n" for key, value in table.items())


def _read(
    table: Mapping[str, Any], dataset: object, where: str
) -> tuple[Callable[..., Any], tuple[str, ...], dict[str, Any], dict[str, Any]]:
    """What makes the stage, its arguments in front and by name, and the table with every default filled in."""
    kind, name = _named(table, where)
    maker, positional = _maker(kind, name)
    options = {key: value for key, value in table.items() if key not in (kind, "cutoff")}
    parameters = dict(list(inspect.signature(maker).parameters.items())[len(positional) :])
    what = f"{where}: {kind} {name!r}"
    given = _dataset(parameters.pop("dataset", None), dataset, what)
    _check(options, parameters, what)
    made = converted(maker, options, what)
    defaults = {key: parameter.default for key, parameter in parameters.items() if _has_spelling(parameter.default)}
    cutoff = {"cutoff": table["cutoff"]} if "cutoff" in table else {}
    return maker, positional, {**made, **given}, {kind: name, **defaults, **options, **cutoff}


def _named(table: Mapping[str, Any], where: str) -> tuple[str, str]:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} is {table!r}; it must be a table")
    kinds = [kind for kind in KINDS if kind in table]
    if len(kinds) != 1:
        raise ConfigError(f"{where}: a stage has a key 'retriever', 'reranker' or 'step', and no more than one of them")
    name = table[kinds[0]]
    if not isinstance(name, str):
        raise ConfigError(f"{where}: {kinds[0]} is {name!r}; it must be a name")
    return kinds[0], name


def _maker(kind: str, name: str) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """What makes the stage, and the arguments that stand in front."""
    if kind == "reranker":
        return registry.load("stage", "reranker"), (name,)
    if kind == "step":
        step = registry.load("step", name)
        return getattr(step, "of", step), ()
    retriever = registry.load("retriever", name)
    return getattr(retriever, "of", retriever), ()


def _dataset(wanted: inspect.Parameter | None, dataset: object, what: str) -> dict[str, object]:
    if wanted is None:
        return {}
    if dataset is None and wanted.default is inspect.Parameter.empty:
        raise ConfigError(f"{what} needs a dataset; give one to `Pipeline.load`, or --dataset to the command")
    return {"dataset": dataset}


def _check(options: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], what: str) -> None:
    for key in options:
        if key not in parameters:
            raise ConfigError(
                f"{what}: no option is called {key!r}{registry.did_you_mean(key, [*parameters, 'cutoff'])}"
            )
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            raise ConfigError(f"{what}: the option {key!r} is missing")


def _has_spelling(value: object) -> bool:
    """TOML has no null, so an option that is None by default stays unsaid."""
    return isinstance(value, (bool, int, float, str))


def _spelled(value: Any) -> str:
    """TOML spells values as JSON does, but for tables, infinities and the one control character JSON leaves bare."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_spelled(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_spelled, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
