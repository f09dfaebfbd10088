"""Prompts as students read them: by the engine's own segments, so that training and ranking read the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rerank import prompts
from rerank.engine.texts.borders import Borders
from rerank.engine.texts.prompt_tokens import Prompt, PromptTokens
from rerank.engine.texts.text_tokens import TextTokens, store_for
from rerank.errors import InputError
from rerank.judges.causal_text import causal_template
from rerank.judges.passage_tokens import with_places
from rerank.judges.text_models import template_of
from rerank.prompts.prompt import Prompt as PromptFile
from rerank.prompts.speech import opens_thought
from rerank.types import Document, Query

__all__ = ["PassageReader", "PromptReader"]


class PromptReader:
    """A prompt of the toolkit, for one checkpoint.

    Args:
        folder: of the checkpoint; its kind says how a conversation becomes a text.
        tokenizer: its own.
        prompt: a name, a path that ends in .toml, or a prompt.
        max_tokens: of the whole prompt; documents alone are cut, and share the room.
        document_tokens: of each document; as the prompt's file says by default.

    Raises:
        InputError: when there is no such prompt, or this model cannot be asked by it.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: Any,
        prompt: str | PromptFile,
        *,
        max_tokens: int,
        document_tokens: int | None = None,
    ) -> None:
        self.folder, self.tokenizer, self.prompt = folder, tokenizer, prompts.find(prompt)
        if self.prompt.fused or self.prompt.shows_demonstrations:
            raise InputError(f"prompt {self.prompt.name!r} cannot be trained: it shows demonstrations or many texts")
        self.max_tokens, self.document_tokens = max_tokens, document_tokens or self.prompt.tokens
        self._borders = Borders(TextTokens(tokenizer, store_for(tokenizer, None)))
        self._templates = lru_cache(maxsize=64)(self._template)

    def read(self, query: str, documents: Sequence[str], *, room: int = 0) -> Prompt:
        """The prompt that shows these documents.

        Args:
            query: its words.
            documents: their texts, in the order shown.
            room: tokens to leave for what is written behind it.

        Raises:
            InputError: when the query leaves no room for them.
        """
        shown = [Document(str(index), text) for index, text in enumerate(documents)]
        asked = Query("query", query)
        texts, whole = self.prompt.texts(asked, shown), self.prompt.texts(asked, shown, whole=True)
        template = self._templates(len(shown))
        limits = {"max_tokens": self.max_tokens - room, "document_tokens": self.document_tokens}
        return template.render(texts, whole=whole, **limits)

    @property
    def begun(self) -> str:
        """How an answer begins that the prompt begins already."""
        if self.prompt.answer:
            return self.prompt.answer
        return "<think>" if opens_thought(self.tail(self.prompt.shows or 2)) else ""

    def tail(self, documents: int) -> str:
        """What an answer is read behind: the end of the prompt."""
        last = self._templates(documents).template.parts[-1]
        return last if isinstance(last, str) else "a"  # behind a document the answer is another word

    def _template(self, documents: int) -> PromptTokens:
        said = self.prompt.render(documents)
        made = template_of(self.folder, self.tokenizer, said, self.prompt.answer, thinking=self.prompt.thinking)
        return PromptTokens(self._borders, made)


class PassageReader(PromptReader):
    """A prompt that shows passages as vectors, for a causal model that reads them so.

    Args:
        folder, tokenizer, prompt, max_tokens: as of `PromptReader`; the tokenizer knows the placeholder.
        as_places: put the placeholder where a document's text would stand; else the prompt says itself where it is.
    """

    def __init__(
        self, folder: Path, tokenizer: Any, prompt: str | PromptFile, *, max_tokens: int, as_places: bool
    ) -> None:
        self.as_places = as_places
        super().__init__(folder, tokenizer, prompt, max_tokens=max_tokens)

    def _template(self, documents: int) -> PromptTokens:
        said = self.prompt.render(documents)
        if self.as_places:
            said = tuple((role, with_places(parts)) for role, parts in said)
        made = causal_template(self.tokenizer, said, self.prompt.answer, thinking=self.prompt.thinking)
        return PromptTokens(self._borders, made)
