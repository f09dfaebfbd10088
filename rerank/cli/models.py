"""`rerank models`: which checkpoints there are, and where they are."""

from __future__ import annotations

from typing import Any

import click

from rerank.cli import names
from rerank.cli.loading import fetch_model
from rerank.cli.screen import Screen, rows, with_screen

__all__ = ["models"]


@click.group("models")
def models() -> None:
    """List checkpoints, fetch them, and say where they are.

    \b
    Example:
        rerank models list
    """


@models.command("list")
@with_screen
def list_models(*, screen: Screen) -> None:
    """List the checkpoints that have a name here; any other hub id or folder works too.

    \b
    Example:
        rerank models list
    """
    found = [_entry(name) for name in _names()]
    screen.answer({"models": found})
    if not screen.as_json:
        lines = [
            [one["adapter"] or one["hub"] or one["name"], f"{one['max_tokens']:,}", one["licence"], one["description"]]
            for one in found
        ]
        screen.show(rows(["model", "tokens", "licence", "what it is"], lines))


@models.command("fetch")
@click.argument("name", shell_complete=names.completing(names.checkpoint_names, files=True))
@click.option("--refresh", is_flag=True, help="Ask the sources again even if it is here: the hub may have come back.")
@with_screen
def fetch(*, screen: Screen, name: str, refresh: bool) -> None:
    """Download checkpoint NAME, unless it is here, and print its folder.

    \b
    Example:
        rerank models fetch cross-encoder/ms-marco-MiniLM-L12-v2
    """
    _answer(name, str(fetch_model(name, screen, refresh=refresh)), screen)


@models.command("where")
@click.argument("name", shell_complete=names.completing(names.checkpoint_names, files=True))
@with_screen
@click.pass_context
def where(ctx: click.Context, *, screen: Screen, name: str) -> None:
    """Print the folder of checkpoint NAME, or end with 1 when it is not on this machine.

    \b
    Example:
        rerank models where cross-encoder/ms-marco-MiniLM-L12-v2
    """
    from rerank import checkpoints

    folder = checkpoints.where(name)
    if folder is not None:
        _answer(name, str(folder), screen)
        return
    screen.answer({"model": name, "folder": None})
    screen.say(f"{name} is not on this machine; 'rerank models fetch {name}' downloads it")
    ctx.exit(1)


def _answer(name: str, folder: str, screen: Screen) -> None:
    from rerank import checkpoints

    entry = checkpoints.find(name).checkpoint
    adapter = entry.adapter if entry is not None else ""
    kind = checkpoints.kind(folder, adapter or None) if entry is None or entry.judge else "model without a judge"
    origin = checkpoints.origin(folder) + (f", with the adapter {adapter}" if adapter else "")
    screen.answer({"model": name, "folder": folder, "origin": origin, "kind": kind})
    if not screen.as_json:
        click.echo(folder)
        screen.say(f"a {kind}, from {origin}")


def _names() -> list[str]:
    from rerank import checkpoints

    return checkpoints.names()


def _entry(name: str) -> dict[str, Any]:
    from rerank import checkpoints

    entry = checkpoints.find(name).checkpoint
    assert entry is not None
    sources = [str(source) for source in entry.sources] or [f"the hub's {entry.hub}"]
    facts = {
        key: getattr(entry, key)
        for key in ("hub", "adapter", "description", "licence", "max_tokens", "judge", "algorithm")
    }
    return {"name": name, **facts, "prompt": entry.prompt, "options": dict(entry.options), "sources": sources}
