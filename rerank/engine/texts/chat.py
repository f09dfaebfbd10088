"""Chat templates: messages with slots become one prompt with slots, as the checkpoint was trained to read it.

The tokenizer's own template is asked (`apply_chat_template`) with a mark in each slot's place, so that what a document
says never passes through it. The template writes the special tokens, the beginning of a text among them, and none is
added to them. Prompts are run without padding, or padded where the engine pads: which side the tokenizer would pad is
never asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rerank.engine.texts.prompt_tokens import Slot, Template
from rerank.errors import InputError

__all__ = ["Message", "chat"]

Message = tuple[str, Sequence[str | Slot]]
"""Who speaks ("system", "user" or "assistant"), and what: texts and slots."""

MARK = re.compile("\ue0f0(\\d+)\ue0f1")  # of the private use area, where no template has text


def chat(tokenizer: Any, messages: Sequence[Message], *, thinking: bool = False, answer: str = "") -> Template:
    """A conversation as a prompt that the model continues.

    A template that knows no system role gets its text at the beginning of the first user message, a blank line between.

    Args:
        tokenizer: of transformers, with a chat template.
        messages: in order; the first may be the system's.
        thinking: passed on as `enable_thinking`, which Qwen3 and its like read; where they do not think, their template
            writes the empty thought themselves.
        answer: how the model's answer begins (" Passage:", or an empty thought where the template writes none). It is
            not written twice where the template ends with it.

    Raises:
        InputError: when the tokenizer has no chat template, or it refuses the messages or loses one of them.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template; use plain text"
        )
    slots: list[Slot] = []
    marked = [{"role": role, "content": _marked(parts, slots)} for role, parts in messages]
    written = _applied(tokenizer, marked, thinking)
    if written is None:
        raise InputError(f"the chat template refuses messages from {', '.join(role for role, _ in messages)}")
    if answer and not written.endswith(answer):
        written += answer
    return Template(_parts(written, slots), special_tokens=False)


def _marked(parts: Sequence[str | Slot], slots: list[Slot]) -> str:
    """A message as text, with a numbered mark for each slot."""
    texts = []
    for part in parts:
        if isinstance(part, Slot):
            texts.append(f"\ue0f0{len(slots)}\ue0f1")
            slots.append(part)
        else:
            texts.append(part)
    return "".join(texts)


def _applied(tokenizer: Any, messages: list[dict[str, str]], thinking: bool) -> str | None:
    """What the template makes of the messages; None when it refuses them, or leaves something out."""
    from jinja2.exceptions import TemplateError

    try:
        written: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
    except TemplateError:
        written = ""
    if written and all(message["content"].strip() in written for message in messages):
        return written
    return _applied(tokenizer, _folded(messages), thinking) if messages[0]["role"] == "system" else None


def _folded(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The system's text in front of the first user's."""
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system["content"]}, *rest]
    return [{"role": "user", "content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]


def _parts(written: str, slots: Sequence[Slot]) -> tuple[str | Slot, ...]:
    pieces = MARK.split(written)  # texts and numbers by turns
    parts = [slots[int(piece)] if index % 2 else piece for index, piece in enumerate(pieces)]
    return tuple(part for part in parts if part)
