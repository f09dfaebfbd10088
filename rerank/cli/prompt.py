"""`rerank prompt`: what a model would see."""

from __future__ import annotations

from pathlib import Path

import click

from rerank.cli import names
from rerank.cli.screen import Screen, with_screen

__all__ = ["prompt"]

IN_A_LIST = 3  # documents that are shown where none is given


@click.command("prompt")
@click.argument("name", shell_complete=names.completing(names.prompt_names, files=True))
@click.argument("documents", nargs=-1)
@click.option("--query", default="what is a reranker?", show_default=True, help="Text of the query.")
@with_screen
def prompt(*, screen: Screen, name: str, query: str, documents: tuple[str, ...]) -> None:
    """Show prompt NAME as a model would see it, with DOCUMENTS (texts) in their places.

    NAME is one of `rerank list prompts`, or a TOML file of your own. A conversation is shown turn by turn; its
    checkpoint's chat template writes the marks between them.

    \b
    Examples:
        rerank prompt rankgpt --query "how many people live in Berlin" "Berlin has 3.5 million." "New York is famous."
        rerank prompt mine.toml
    """
    from rerank import prompts
    from rerank.types import Document, Query

    found = prompts.find(Path(name) if name.endswith(".toml") else name)
    count = IN_A_LIST if found.shows is None else found.shows
    given = documents or tuple(f"text {number}" for number in range(1, count + 1))
    texts = found.texts(Query("query", query), [Document(str(at), text) for at, text in enumerate(given)])
    messages = [
        (role, "".join(part if isinstance(part, str) else texts[part.name] for part in parts))
        for role, parts in found.render(len(given))
    ]
    screen.answer(
        {
            "prompt": found.name,
            "source": found.source,
            "asks": found.asks,
            "messages": [{"role": role, "content": content} for role, content in messages],
            "answer": found.answer,
            "targets": list(found.targets),
        }
    )
    if not screen.as_json:
        for role, content in [*messages, *([("assistant", found.answer)] if found.answer else [])]:
            click.echo(content if role == "plain" else f"--- {role}\n{content}")
        screen.say(f"asks to {found.asks}; from {found.source}")
