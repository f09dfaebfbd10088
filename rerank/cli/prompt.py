"""`rerank prompt`: what a model would see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rerank.cli import names
from rerank.cli.screen import Screen, with_screen
from rerank.errors import InputError, UnknownName

if TYPE_CHECKING:
    from rerank.prompts import Message, Prompt

__all__ = ["prompt"]

IN_A_LIST = 3  # documents that are shown where none is given


@click.command("prompt")
@click.argument("name", shell_complete=names.completing(names.asked_names, files=True))
@click.argument("documents", nargs=-1)
@click.option("--query", default="what is a reranker?", show_default=True, help="Text of the query.")
@names.model_option(required=False, help="Show the whole text that this checkpoint's tokenizer and chat template make.")
@with_screen
def prompt(*, screen: Screen, name: str, query: str, model: str | None, documents: tuple[str, ...]) -> None:
    """Show prompt NAME as a model would see it, with DOCUMENTS (texts) in their places.

    NAME is one of `rerank list prompts`, or a TOML file of your own; or a method or a checkpoint, whose prompt is
    shown. A conversation is shown turn by turn. Where the checkpoint is on this machine, or --model is, the whole text
    is shown with the marks that its chat template and its tokenizer write.

    \b
    Examples:
        rerank prompt rankgpt --query "how many people live in Berlin" "Berlin has 3.5 million." "New York is famous."
        rerank prompt setwise --model HuggingFaceTB/SmolLM2-135M-Instruct
        rerank prompt castorini/monot5-base-msmarco
        rerank prompt mine.toml
    """
    from rerank.types import Document, Query

    found, own = _found(name)
    count = IN_A_LIST if found.shows is None else found.shows
    given = documents or tuple(f"text {number}" for number in range(1, count + 1))
    texts = found.texts(Query("query", query), [Document(str(at), text) for at, text in enumerate(given)])
    rendered = found.render(len(given))
    messages = [
        (role, "".join(part if isinstance(part, str) else texts[part.name] for part in parts))
        for role, parts in rendered
    ]
    folder = _folder(model or own, named=model is not None)
    divided = found.divided  # the two texts say all that is read
    whole = None if folder is None or divided else _whole(folder, found, rendered, texts)
    screen.answer(
        {
            "prompt": found.name,
            "source": found.source,
            "asks": found.asks,
            "messages": [{"role": role, "content": content} for role, content in messages],
            "answer": found.answer,
            "targets": list(found.targets),
            "text": whole,
        }
    )
    if not screen.as_json:
        _show(messages if whole is None else [("plain", whole)], "" if whole is not None else found.answer)
        screen.say(f"asks to {found.asks}; from {found.source}")


def _found(name: str) -> tuple[Prompt, str | None]:
    """The prompt that is meant, and the checkpoint whose it is, if it is one's."""
    from rerank import checkpoints, methods, prompts

    if name.endswith(".toml"):
        return prompts.find(Path(name)), None
    if name in prompts.names():
        return prompts.find(name), None
    if methods.known(name):
        return prompts.find(_said(methods.find(name).prompt, f"method {name!r}")), None
    try:
        entry = checkpoints.find(name).checkpoint
    except UnknownName:
        entry = None
    if entry is None:
        return prompts.find(name), None  # which says that there is none, and what may have been meant
    return prompts.find(_said(entry.prompt, f"checkpoint {name!r}")), name


def _said(prompt: str, whose: str) -> str:
    if not prompt:
        raise InputError(f"{whose} reads no prompt: query and document are read as they are; name a prompt")
    return prompt


def _folder(model: str | None, *, named: bool) -> Path | None:
    """Where a checkpoint lies. One that is only not here is no error unless it was asked for."""
    from rerank import checkpoints

    folder = None if model is None else checkpoints.where(model)
    if folder is None and named:
        raise InputError(f"{model} is not on this machine; 'rerank models fetch {model}' fetches it")
    return folder


def _whole(folder: Path, found: Prompt, messages: Sequence[Message], texts: Mapping[str, str]) -> str:
    """All that stands in front of the answer, special tokens included."""
    from transformers import AutoTokenizer

    from rerank.judges.text_models import template_of

    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = template_of(folder, tokenizer, messages, found.answer, thinking=found.thinking)
    text = "".join(part if isinstance(part, str) else texts[part.name] for part in template.parts)
    return str(tokenizer.decode(tokenizer(text, add_special_tokens=template.special_tokens)["input_ids"]))


def _show(messages: Sequence[tuple[str, str]], answer: str) -> None:
    for role, content in [*messages, *([("assistant", answer)] if answer else [])]:
        click.echo(content if role == "plain" else f"--- {role}\n{content}")
