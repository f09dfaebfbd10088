"""`rerank list`: everything that has a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import click

from rerank.cli.screen import Screen, rows, with_screen

__all__ = ["KINDS", "list_names"]


def _registered(kind: str) -> Callable[[], dict[str, str]]:
    def names() -> dict[str, str]:
        from rerank import registry

        return dict.fromkeys(sorted(registry.TABLES.get(kind, {})), "")

    return names


def _methods() -> dict[str, str]:
    from rerank import methods

    return {name: methods.find(name).description for name in methods.names()}


def _checkpoints() -> dict[str, str]:
    from rerank import checkpoints

    entries = {name: checkpoints.find(name).checkpoint for name in checkpoints.names()}
    return {name: entry.description for name, entry in entries.items() if entry is not None}


def _prompts() -> dict[str, str]:
    from rerank import prompts

    return {name: prompts.find(name).description for name in prompts.names()}


def _datasets() -> dict[str, str]:
    from rerank.datasets import names

    return {listed.name: listed.description for listed in names()}


def _formats() -> dict[str, str]:
    from rerank import registry

    return {name: format.summary for name, format in registry.load("training", "formats").items()}


def _recipes() -> dict[str, str]:
    from rerank import registry

    find = registry.load("training", "recipe")
    return {name: find(name).description for name in registry.load("training", "recipes")()}


def _fusion() -> dict[str, str]:
    from rerank.fusion import METHODS

    return {name: method.summary for name, method in METHODS.items()}


def _calibrations() -> dict[str, str]:
    from rerank.calibration import METHODS

    return {name: _first_sentence(method.__doc__ or "") for name, method in METHODS.items()}


def _measures() -> dict[str, str]:
    """By their families, without their other spellings: cutoffs and relevance levels are added in use."""
    import ir_measures

    known = sorted(ir_measures.measures.registry.items())
    return {name: _first_sentence(measure.__doc__ or "") for name, measure in known if name == measure.NAME}


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".:")


def _perturbations() -> dict[str, str]:
    from rerank.perturb import GROUPS
    from rerank.perturb import KINDS as kinds

    groups = {name: f"all of them: {', '.join(members)}" for name, members in GROUPS.items() if name != "all"}
    return {name: kind.summary for name, kind in kinds.items()} | groups


KINDS: Mapping[str, Callable[[], dict[str, str]]] = {
    "methods": _methods,
    "algorithms": _registered("algorithm"),
    "judges": _registered("judge"),
    "retrievers": _registered("retriever"),
    "steps": _registered("step"),
    "prompts": _prompts,
    "checkpoints": _checkpoints,
    "datasets": _datasets,
    "kernels": _registered("kernel"),
    "measures": _measures,
    "fusion": _fusion,
    "calibrations": _calibrations,
    "formats": _formats,
    "recipes": _recipes,
    "perturbations": _perturbations,
}
"""What `rerank list` knows: kind -> its names, each with a line about it where there is one."""


@click.command("list")
@click.argument("kind", type=click.Choice(list(KINDS)), required=False, metavar="[KIND]")
@with_screen
def list_names(*, screen: Screen, kind: str | None) -> None:
    """List what can be named: methods, algorithms, checkpoints and so on.

    KIND is one of methods, algorithms, judges, retrievers, steps, prompts, checkpoints, datasets, kernels, measures,
    fusion, calibrations, formats (of training examples), recipes (of training) and perturbations; without it, all are
    listed.

    \b
    Examples:
        rerank list algorithms
        rerank list --json
    """
    found = {name: KINDS[name]() for name in ([kind] if kind else KINDS)}
    screen.answer({"names": found})
    if not screen.as_json:
        for name, members in found.items():
            _show(name, members, screen)


def _show(kind: str, members: Mapping[str, str], screen: Screen) -> None:
    if not members:
        screen.show(f"{kind}: there are none yet")
    elif any(members.values()):
        screen.show(rows([kind, "what it is"], list(members.items())))
    else:
        screen.show(f"{kind}: {', '.join(members)}")
