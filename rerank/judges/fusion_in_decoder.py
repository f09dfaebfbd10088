"""Fusion in decoder: each document is a text of its own, and one decoder, which reads them all, writes their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rerank.errors import InputError
from rerank.judges.bills import Asked, Work
from rerank.judges.permutation import SLACK, Permutation
from rerank.judges.sequence_text import SequenceText
from rerank.judges.spelling import Spelling
from rerank.judges.text_models import Outcome
from rerank.prompts.prompt import Prompt, identifiers
from rerank.questions import Permuted, Question
from rerank.types import Document

__all__ = ["FusionInDecoder"]


class FusionInDecoder(Permutation):
    """ListT5 (Yoon et al., 2024, https://arxiv.org/abs/2402.15838) and LiT5-Distill (Tamber et al., 2023,
    https://arxiv.org/abs/2312.16098).

    The encoder reads query, identifier and document, for one document at a time; the decoder looks at all of it. ListT5
    writes bare numbers, the most relevant last; LiT5 "[3] > [1]", the most relevant first. The prompt says which.
    What is wrong with a list is repaired as of `Permutation`; of a document that ListT5 names twice the last mention
    counts, and those it does not name follow in the order shown.

    Args:
        folder, options: as of `PromptedJudge`. `max_tokens` is of each text: query, identifier and document.
        prompt: one that makes a text of each document: "listt5" or "lit5".
        group: fill questions about fewer documents up to so many, by showing the first ones again; what is named
            first of a document counts. For models that were trained on a fixed number: 5 for ListT5.
        constrained: let the decoder write nothing but each identifier once. Off as published.
        new_tokens: the most tokens to write; by default a complete list and its end.

    Raises:
        CheckpointError: when the checkpoint is no T5.
        InputError: when the group is smaller than 2.
    """

    scoring = "fusion-in-decoder 1"
    fuses = True

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt = "listt5",
        group: int | None = None,
        constrained: bool = False,
        **options: Any,
    ) -> None:
        if group is not None and group < 2:
            raise InputError(f"group={group}; an order takes at least 2 documents")
        self.group, self.constrained = group, constrained
        super().__init__(folder, prompt=prompt, **options)
        self._spelling = lru_cache(maxsize=64)(self._spelt)
        if constrained:
            self._spelling(2)  # what can be known at load is known at load

    @property
    def options(self) -> dict[str, str]:
        """How many documents are shown at least, and what may be written."""
        filled = {} if self.group is None else {"group": f"filled up to {self.group}"}
        return super().options | filled | ({"constrained": "each identifier once"} if self.constrained else {})

    def shown(self, question: Question) -> Sequence[Document]:
        """The documents, the first ones again where the group wants more."""
        documents = question.documents
        count = max(len(documents), self.group or 0)
        return [documents[index % len(documents)] for index in range(count)]

    def continued(self, asked: Sequence[Asked]) -> tuple[list[Outcome], Work]:
        """A list each."""
        if not self.constrained:
            return super().continued(asked)
        spellings = [self._spelling(len(self.shown(each.question))) for each in asked]

        def allowed(index: int, ids: Sequence[int]) -> list[int]:
            return spellings[index].next(ids)

        assert isinstance(self.model, SequenceText)
        prompts, limits = [each.prompt for each in asked], [self.most(each.question) for each in asked]
        draws = [each.question.draw for each in asked]
        return self.model.write(prompts, limits, self.manner, draws, allowed=allowed)

    def read(self, question: Question, text: str) -> Permuted:
        """Of a document that was shown twice the better place counts; that it was is nobody's mistake."""
        read = super().read(question, text)
        count = len(question.documents)
        seen: set[int] = set()
        groups = []
        for group in read.groups:
            new = sorted({index % count for index in group} - seen)
            seen.update(new)
            groups += [tuple(new)] if new else []
        return Permuted(tuple(groups), repairs=read.repairs)

    def _tokens_of_a_list(self, count: int) -> int:
        return len(self._ids(self.prompt.complete_list(count))) + (SLACK if self._bracketed else 1)

    def _spelt(self, count: int) -> Spelling:
        names = identifiers(self.prompt.identifiers, count)
        first = [self._ids(self._named(name)) for name in names]
        behind = self._ids(self._named(names[0]))
        later = [self._ids(self._named(names[0]) + self._between() + self._named(name)) for name in names]
        if any(ids[: len(behind)] != behind for ids in later):
            raise InputError(f"the tokenizer of {self.folder.name} reads identifiers together; leave out constrained")
        end: int = self.model.loaded.model.config.eos_token_id
        return Spelling(first, [ids[len(behind) :] for ids in later], end)

    @property
    def _bracketed(self) -> bool:
        return "[{identifier}]" in self.prompt.turns[0].text

    def _between(self) -> str:
        return " > " if self._bracketed else " "

    def _named(self, name: str) -> str:
        return f"[{name}]" if self._bracketed else name

    def _ids(self, text: str) -> list[int]:
        encoded: Mapping[str, list[int]] = self.tokenizer(text, add_special_tokens=False)
        return list(encoded["input_ids"])
