"""A question as a server is told it: a conversation, or one text; documents cut to fit, and what was cut."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rerank import checkpoints
from rerank.engine.texts.borders import Borders
from rerank.engine.texts.chat import chat
from rerank.engine.texts.prompt_tokens import PromptTokens, Slot, Template
from rerank.engine.texts.text_tokens import TextTokens, fingerprint, unreadable
from rerank.errors import CheckpointError, InputError
from rerank.judges.readings import wanted
from rerank.judges.text_models import slots
from rerank.prompts import Blank, Message, Prompt
from rerank.questions import Question

__all__ = ["Told", "Words"]

CONTROL = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</?s>|\[/?INST\]|<</?SYS>>|</?think>"
    r"|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>",
    re.IGNORECASE,
)
"""What chat templates of well-known models are written with; a server reads it inside a passage as its own words."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a server is told.

    Args:
        messages: a conversation, (role, text) each; None when it is a text.
        text: that the model continues; "" when it is a conversation.
        amounts: what cutting adds to the bill.
    """

    messages: tuple[tuple[str, str], ...] | None
    text: str
    amounts: Mapping[str, int]

    def fields(self, behind: str = "") -> dict[str, Any]:
        """Of a request; `behind` goes on with the text."""
        if self.messages is None:
            return {"prompt": self.text + behind}
        return {"messages": [{"role": role, "content": text} for role, text in self.messages]}


class Words:
    """Puts a prompt's questions into words.

    Args:
        prompt: that asks them.
        chats: whether they are conversations, or texts that the model continues.
        tokenizer: the model's own: a folder, a checkpoint's name, or a hub id. With it documents are cut by tokens,
            and a conversation can be written as a text.
        max_tokens: the most tokens of a prompt; documents are cut at their ends to fit.

    Raises:
        InputError: when tokens are counted without a tokenizer, or a conversation is to be a text without its template.
        CheckpointError: when there is no such tokenizer.
    """

    def __init__(
        self, prompt: Prompt, *, chats: bool, tokenizer: str | Path | None = None, max_tokens: int | None = None
    ) -> None:
        if max_tokens is not None and (tokenizer is None or max_tokens < 1):
            raise InputError(
                f"max_tokens={max_tokens} needs the model's own tokenizer to count, and at least 1: give tokenizer= a "
                "folder or a hub id, or cut by words="
            )
        if prompt.tokens is not None and tokenizer is None and prompt.words is None:
            raise InputError(
                f"prompt {prompt.name!r} shows {prompt.tokens} tokens of a document, and only the model's tokenizer "
                "counts them: give tokenizer= a folder or a hub id, or cut by words="
            )
        self.prompt, self.chats, self.max_tokens = prompt, chats, max_tokens
        self.tokenizer = None if tokenizer is None else _tokenizer(tokenizer)
        self._borders = None if self.tokenizer is None else Borders(TextTokens(self.tokenizer))
        self._template = lru_cache(maxsize=64)(self._made)
        if not chats and not prompt.plain and tokenizer is None:
            raise InputError(
                f"prompt {prompt.name!r} is a conversation, and a text of it needs the model's chat template: give "
                "tokenizer= a folder or a hub id, or api='chat'"
            )

    @property
    def identity(self) -> str:
        """What else decides what the model is told, for keys."""
        if self.tokenizer is None:
            return ""
        return f"{fingerprint(self.tokenizer)} {getattr(self.tokenizer, 'chat_template', None)!r} {self.max_tokens}"

    def told(self, question: Question, room: int) -> Told:
        """A question in words.

        Args:
            question: a question of the prompt's kind.
            room: tokens that must be left for what is written, where tokens are counted.

        Raises:
            InputError: when a text cannot be read, or the query leaves no room for a document.
        """
        shown = question.documents
        texts = self.prompt.texts(question.query, shown, wanted(question))
        whole = self.prompt.texts(question.query, shown, wanted(question), whole=True)
        cut = {name for name, text in texts.items() if text != whole[name]}
        for text in texts.values():
            if error := unreadable(text):
                raise error
        if self._borders is not None:
            tokens = self._template(len(shown))
            most = None if self.max_tokens is None else max(1, self.max_tokens - room)
            fitted, put = tokens.fitted(
                {name: texts[name] for name in tokens.slots},
                max_tokens=most,
                document_tokens=self.prompt.tokens,
                whole={name: whole[name] for name in tokens.slots},
            )
            texts, lost = {**texts, **fitted}, put.cut or {}
            amounts = {"truncated_tokens": sum(lost.values()), "special_tokens_defused": put.defused}
        else:
            lost, (texts, defused) = {}, _defused(texts)
            amounts = {"special_tokens_defused": defused}
        amounts |= {
            "truncated_documents": len(cut | set(lost)),
            "identifiers_renamed": self.prompt.identifiers_in(question.query, shown),
        }
        amounts = {name: amount for name, amount in amounts.items() if amount}
        if self.chats:
            said = [(_role(role), _filled(parts, texts)) for role, parts in self.prompt.render(len(shown))]
            return Told(tuple(said), "", amounts)
        return Told(None, self._text(len(shown), texts), amounts)

    def _text(self, documents: int, texts: Mapping[str, str]) -> str:
        if self.tokenizer is None:
            return "".join(_filled(parts, texts) for _, parts in self.prompt.render(documents)) + self.prompt.answer
        template = self._template(documents).template
        text = "".join(texts[part.name] if isinstance(part, Slot) else part for part in template.parts)
        first = self.tokenizer.bos_token
        if first and not template.special_tokens and _begins(self.tokenizer):
            return text.removeprefix(first)  # the server writes its own
        return text

    def _made(self, documents: int) -> PromptTokens:
        assert self._borders is not None
        messages: Sequence[Message] = self.prompt.render(documents)
        if self.prompt.plain and not self.chats:
            parts = tuple(part for _, said in messages for part in slots(said))
            return PromptTokens(self._borders, Template((*parts, *filter(None, [self.prompt.answer]))))
        told = [(_role(role), slots(said)) for role, said in messages]
        return PromptTokens(
            self._borders,
            chat(self.tokenizer, told, thinking=self.prompt.thinking, answer="" if self.chats else self.prompt.answer),
        )


def _tokenizer(name: str | Path) -> Any:
    import transformers

    place = checkpoints.where(name) or name
    try:
        return transformers.AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"there is no tokenizer {name}: {str(error).splitlines()[0]}") from error


def _begins(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its first token in front of every text."""
    return bool(tokenizer("a", verbose=False)["input_ids"][0] == tokenizer.bos_token_id)


def _role(role: str) -> str:
    return "user" if role == "plain" else role


def _filled(parts: Sequence[str | Blank], texts: Mapping[str, str]) -> str:
    return "".join(texts[part.name] if isinstance(part, Blank) else part for part in parts)


def _defused(texts: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """Texts in which control tokens are broken up, and how many were; without a tokenizer a model's own are unknown."""
    found = {name: CONTROL.subn(lambda each: f"{each[0][0]} {each[0][1:]}", text) for name, text in texts.items()}
    return {name: text for name, (text, _) in found.items()}, sum(count for _, count in found.values())
